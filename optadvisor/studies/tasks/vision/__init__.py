"""Images: scikit-learn's handwritten digits and sample photographs."""

from optadvisor.studies.tasks.vision import autoencoder, cnn, mlp

FAMILIES = (*mlp.FAMILIES, *cnn.FAMILIES, *autoencoder.FAMILIES)
