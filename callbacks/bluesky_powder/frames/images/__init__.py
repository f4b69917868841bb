"""Where the images of an event are, and reading them there.

`inline` ones are in the event; `legacy` ones behind Resource and Datum, with handlers for the commonest `specs`; those
of `resources` behind StreamResource and StreamDatum: in HDF5 files, in a `region` of them, or in `numbered` files.
`reach` knows what is on this machine, `remote` asks a server for the rest, and `together` reads several events at once.
"""
