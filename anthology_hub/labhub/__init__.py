"""A private hub that the official Hugging Face clients talk to; needs the extra `labhub`.

Each module uses only those above it::

    trees.py         directories as content-addressed objects: edit, walk, compare       (pure)
    blobs.py         file contents on disk, named by their sha256
    database.py      the SQLite file: tables and transactions
    accounts.py      accounts, tokens, members, rights in a namespace
    store.py         repositories, commits, refs, and rights to them
    discussions.py   discussions and pull requests
    metadata.py      cards, and `.eval_results` of models -> the leaderboard of a dataset
    upkeep.py        check, collect garbage, back up
    faults.py        failures on demand, for tests of clients
    wire.py          requests with checked parts, answers, errors, routes, limits of size and rate
    api.py files.py xet.py      the routes: lists and settings; content; uploads by Xet
    markup.py pages.py          the web page
    server.py        the application; `running` for tests, `serve` for a lab
    commands.py      the command line

Start with `anthology_hub.labhub.server.running`.
"""
