"""One co-design run from a configuration file to a run directory: joins cost, training and search, which never meet."""
