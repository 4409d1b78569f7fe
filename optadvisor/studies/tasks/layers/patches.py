"""Images as sequences of patches, and the mean over a sequence. Rows are in place order: place * batch + image."""

from __future__ import annotations


def patches(images, rows, side, out):
    """out[place * batch + i] = the pixels of a patch of images[rows[i]]; images (n, size, size), out (.., side**2)"""
    batch, across = rows.size, images.shape[1] // side
    for place in range(across * across):
        top, left = place // across * side, place % across * side
        for i in range(batch):
            image, row = images[rows[i]], out[place * batch + i]
            for j in range(side * side):
                row[j] = image[top + j // side, left + j % side]


def mean_of_places(x, out):
    """out[i] = the mean of x[place * batch + i] over the places; out (batch, width)"""
    batch, width = out.shape
    share = x.dtype.type(1.0 / (x.shape[0] // batch))
    out[:] = 0
    for place in range(x.shape[0] // batch):
        own = x[place * batch : (place + 1) * batch]
        for i in range(batch):
            for j in range(width):
                out[i, j] += share * own[i, j]


def mean_of_places_backward(delta, gx):
    """gx[place * batch + i] = delta[i] / places"""
    batch, width = delta.shape
    share = delta.dtype.type(1.0 / (gx.shape[0] // batch))
    for place in range(gx.shape[0] // batch):
        own = gx[place * batch : (place + 1) * batch]
        for i in range(batch):
            for j in range(width):
                own[i, j] = share * delta[i, j]
