"""The random bits of stochastic rounding, in Python's integers. Imports nothing of the package."""

_MASK32, _MASK64 = (1 << 32) - 1, (1 << 64) - 1


def random_key(seed, step):
    """SplitMix64 (Steele et al. 2014), fed with seed and then step."""
    z = 0
    for number in (seed, step):
        z = (z + number + 0x9E3779B97F4A7C15) & _MASK64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
        z ^= z >> 31
    return z


def random_bits(index, key):
    """lowbias32 (Wellons 2018) of index xor the key's lower half, its upper half added between the multiplications."""
    h = index ^ (key & _MASK32)
    h = ((h ^ (h >> 16)) * 0x7FEB352D) & _MASK32
    h = ((h ^ (h >> 15)) + (key >> 32)) & _MASK32
    h = (h * 0x846CA68B) & _MASK32
    return h ^ (h >> 16)
