"""Thin steps: observe, ask the core, act, write down, report."""
