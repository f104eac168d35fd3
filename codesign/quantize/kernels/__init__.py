"""The compiled loops, and what they know of a format. Nothing here is imported before the first rounding but `constants`.

constants   a format as eight 32-bit numbers, all that a loop knows of it
elements    one number, by a fast formula or a general one; all loops inline it
rows        arrays: by rows, columns, blocks, dense, or from a table of channels
sums, tiles    matrix products with rounded sums; a tile of sums in vector registers
fit         squared errors of candidates of formats and clips
counting    histograms
compiled    when a loop is compiled, and where the result is kept
"""
