"""The embedded default: scenes drawn from 92 sprites, with phrases true of exactly one object.

    sprites.py   the drawings under data/demo/sprites, and which nouns the embedded model knows
    scenes.py    256x256 pictures as the embedded model saw them when it was trained
    phrases.py   the grammar: what may be said of an object so that no other one fits
    plan.py      which picture asks for which nouns, before anything is drawn
    mark.py      which files of a folder the demo wrote itself
    dataset.py   `write_demo`: the demo data set as JSONL and PNG
    questions.py what an embedded model is asked while it is trained, in many wordings
    pretrain/    trains one from nothing

Nothing here but pretrain/ imports torch. Everything follows from a seed, and each picture from a seed of its own.
"""
