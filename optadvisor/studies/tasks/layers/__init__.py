"""Layers and losses for compiled training loops: plain functions on arrays of one float dtype, outputs given by the caller.

They are imported by name (the compiler looks up globals, not attributes), compile for float32 (training) and float64
(the tests' finite differences), and use scalars of the arrays' dtype, or everything becomes float64.

np.dot is measured 4x faster here than hand-written loops; everything else is loops. The trainings' products
take one thread each (training.py), so that trainings can run side by side on the cores.
"""
