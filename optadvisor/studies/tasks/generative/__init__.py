"""Models of a distribution: a variational autoencoder, an adversarial pair, denoising diffusion."""

from optadvisor.studies.tasks.generative import diffusion, gan, vae

FAMILIES = (*vae.FAMILIES, *gan.FAMILIES, *diffusion.FAMILIES)
