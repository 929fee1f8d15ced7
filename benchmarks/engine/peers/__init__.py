"""The peers, one a module; each does the whole job from files to files as a competent user of it would."""
