"""Documents that belong together, whichever comes first: Datums and Resources, StreamDatums, events, rows of files."""
