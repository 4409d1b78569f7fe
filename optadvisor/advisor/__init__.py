"""Advice: the guide's rules, published settings and results, combined into ranked configs with reasons."""

from optadvisor.advisor.recommend import Advice, Recommendation, recommend

__all__ = ["Advice", "Recommendation", "recommend"]
