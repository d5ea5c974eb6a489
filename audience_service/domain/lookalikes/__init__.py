"""Lookalikes: whom an audience's members are like, told by a model that anybody can read."""
