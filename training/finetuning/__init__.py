"""How a copy of a pretrained model is trained on a task: recipe, layers, augmentation, objective, loop."""
