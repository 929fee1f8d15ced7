"""The online store on Redis: packed rows in one hash an entity, written by scripts, read through one connection."""
