"""Other frameworks: thin, each calls the functions of this package."""
