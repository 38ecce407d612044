"""The GraphQL schema of Fraisier's read views and functions, authored with fraiseql.

`fraisier schema export` reads it; the package `fraisier` never imports it.
"""
