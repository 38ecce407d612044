"""Fault injection: everything that can go wrong is made to, and what must hold is looked at from outside."""
