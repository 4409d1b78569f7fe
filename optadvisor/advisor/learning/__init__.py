"""What fits and judges the learned half of the advice. Imports studies, NumPy and scikit-learn; `recommend` does not."""
