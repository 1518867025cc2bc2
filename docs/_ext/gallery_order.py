"""The order of the gallery: from a first network to what few need."""

NAMES = [
    "digits", "table", "spirals", "vanishing_gradients", "custom_layer", "learning_rates",
    "ensemble", "same_bits", "checkpoint", "c_export",
]


class Order:
    """What sphinx-gallery sorts the names of files by."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, filename):
        return NAMES.index(filename.removesuffix(".py"))
