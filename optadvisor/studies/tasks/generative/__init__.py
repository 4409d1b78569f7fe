"""Models of a distribution: a variational autoencoder, an adversarial pair, denoising diffusion."""

from optadvisor.studies.tasks.generative import vae

FAMILIES = (*vae.FAMILIES,)
