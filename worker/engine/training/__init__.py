"""Training a graph: one loop for every step that learns.

`loop` takes the epochs; `rows` are what it learns from, `augmentation` changes them; `optimizer` moves the weights,
`device` is where; `state` outlives a killed process, `result` is what came of it.
"""
