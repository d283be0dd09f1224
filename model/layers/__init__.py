"""Layers that several parts use: domain-adaptive ones, networks side by side, products grouped by domain, dropout."""
