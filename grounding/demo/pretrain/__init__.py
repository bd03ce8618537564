"""Train an embedded model from nothing: `python -m grounding.demo.pretrain --out FOLDER`.

    settings.py     every value of such a training, validated, saved beside its result
    shape.py        the model: a stock Qwen3-VL of a given shape, its tokenizer and its processor
    scenes_feed.py  what step n learns from: scenes with questions, a pure function of seed, step and picture
    answers.py      questions as rows of tokens, with the weight that each token has in the loss
    passes.py       the pass through the model: pictures of one grid as one batch, many questions a picture
    dense.py        the throw-away head that tells what stands in each cell: without it nothing is learned
    loop.py         the steps: rate, loss, clipping, checkpoints, and going on from one
    accuracy.py     how well an exported folder answers about scenes that no training shows
    export.py       the result as a stock checkpoint folder with a model card

It reads nothing from the network, and nothing but the drawings of `data/demo/sprites` from the disk. Unlike the rest
of `grounding.demo` it imports torch.

What worked and what didn't was found with the model of today (see its card): plain next-token loss from nothing did
not find the objects at all; a dense head on the visual tokens, more weight on the first digits, and several questions
sharing each picture's pass made it work.
"""
