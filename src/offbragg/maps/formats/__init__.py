"""Files of other programs, one module a format; `offbragg.maps.export` and `importers` choose."""
