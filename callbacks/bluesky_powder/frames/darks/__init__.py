"""Which dark belongs to a frame.

A `dark` is a number, a file, or the `mean` of images. Such images come in a `stream` of the run or as `runs` of their
own; means that may be needed again are in a `store`.
"""
