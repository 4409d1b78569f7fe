"""Images: scikit-learn's handwritten digits and sample photographs."""

from optadvisor.studies.tasks.vision import autoencoder, cnn, denoiser, mlp, resnet, textures, vit

FAMILIES = (
    *mlp.FAMILIES,
    *cnn.FAMILIES,
    *resnet.FAMILIES,
    *vit.FAMILIES,
    *autoencoder.FAMILIES,
    *denoiser.FAMILIES,
    *textures.FAMILIES,
)
