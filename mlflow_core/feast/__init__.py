"""Feast's plug points, thin: offline store, compute engine, online store. Translates; decides nothing."""
