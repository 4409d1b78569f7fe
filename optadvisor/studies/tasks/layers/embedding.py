"""Tokens of a text as vectors.

A window is `length` tokens from tokens[row * stride] on. Place t of window i is row i * across + t * along of a 2-d
array: across=length, along=1 has a window's places side by side; across=1, along=windows a time step's windows.
"""

from __future__ import annotations


def embed(table, tokens, rows, stride, length, across, along, out):
    """out[place t of window i] = table[token]; table (vocabulary, width), out (windows * length, width)"""
    width = table.shape[1]
    for i in range(rows.size):
        first = rows[i] * stride
        for t in range(length):
            token, place = tokens[first + t], i * across + t * along
            for j in range(width):
                out[place, j] = table[token, j]


def embed_backward(tokens, rows, stride, length, across, along, delta, gtable):
    """gtable[token] = the sum of delta over its places, 0 for tokens that do not occur"""
    width = gtable.shape[1]
    gtable[:] = 0
    for i in range(rows.size):
        first = rows[i] * stride
        for t in range(length):
            token, place = tokens[first + t], i * across + t * along
            for j in range(width):
                gtable[token, j] += delta[place, j]


def add_positions(positions, batch, x):
    """x[t * batch + i] += positions[t], in place"""
    length, width = positions.shape
    for t in range(length):
        for i in range(t * batch, (t + 1) * batch):
            for j in range(width):
                x[i, j] += positions[t, j]


def positions_backward(batch, delta, gpositions):
    """gpositions[t] = the sum of delta[t * batch + i] over i"""
    length, width = gpositions.shape
    gpositions[:] = 0
    for t in range(length):
        for i in range(t * batch, (t + 1) * batch):
            for j in range(width):
                gpositions[t, j] += delta[i, j]
