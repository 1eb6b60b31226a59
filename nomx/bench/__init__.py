"""Measuring: a station in a namespace of its own, traffic that outruns what it measures, and peers to compare with.

Stands above the application's library and the client; neither knows of it. Used by `nomx demo`,
`nomx bench` and the experiments. Nothing here prints.
"""
