"""A private hub that the official Hugging Face clients talk to; needs the extra `labhub`.

The way through, each module using only those before it::

    trees.py        directories as content-addressed objects: edit, walk, compare       (pure)
    blobs.py        file contents on disk, named by their sha256
    store.py        accounts, repositories, commits, refs, discussions: SQLite and blobs
    upkeep.py       check, collect garbage, back up a store
    wire.py         requests, answers, errors, routes, limits of size and rate
    benchmarks.py   `.eval_results` of models -> the leaderboard of a dataset
    repos.py files.py commits.py discussions.py xet.py     the routes
    pages.py        the web page
    server.py       the application, a running server
    commands.py     the command line

Start with `anthology_hub.labhub.server.running`.
"""
