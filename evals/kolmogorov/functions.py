"""The functions of the KoLMogorov test's language, as a program of its own.

This file's text stands before a program in the language when it runs in the sandbox, so it imports
nothing and knows nothing of the rest. Sequences are lists of integers; none is changed in place.

Written from the description of the language (Yoran et al., ICLR 2025, arXiv 2503.13992), not from
its authors' code.
"""


def range_func_up(first, last):
    """first, first + 1, ..., last."""
    return list(range(first, last + 1))


def range_func_interval(first, end, step):
    """first, first + step, ... below end."""
    return list(range(first, end, step))


def repeat_num(count, value):
    """The value, count times."""
    return [value] * count


def set_list(values):
    """The values as they are."""
    return list(values)


def repeat_list(times, sequence):
    """The sequence, times times."""
    return sequence * times


def reverse_list(sequence):
    """The sequence backwards."""
    return sequence[::-1]


def substitute(sequence, pattern, replacement):
    """The sequence with every pattern replaced."""
    return [replacement if item == pattern else item for item in sequence]


def get_subsequence_with_jumps(sequence, jump):
    """Every jump-th item, from the first on."""
    return sequence[::jump]


def get_subsequence_between_indices(sequence, start, end):
    """The items from start to before end."""
    return sequence[start:end]


def max_n(sequence, n):
    """The n largest items, the largest first."""
    return sorted(sequence, reverse=True)[:n]


def min_n(sequence, n):
    """The n smallest items, the smallest first."""
    return sorted(sequence)[:n]


def add_item_list(sequence, constant):
    """The constant added to every item."""
    return [item + constant for item in sequence]


def subtract_item_list(sequence, constant):
    """The constant subtracted from every item."""
    return [item - constant for item in sequence]


def modulo_item_list(sequence, constant):
    """Every item modulo the constant."""
    return [item % constant for item in sequence]


def is_even(item):
    """Whether it is even."""
    return item % 2 == 0


def is_odd(item):
    """Whether it is odd."""
    return item % 2 == 1


def is_not_zero(item):
    """Whether it is not zero."""
    return item != 0


def filter(predicate, sequence):  # the language has the name
    """The items for which the predicate holds."""
    return [item for item in sequence if predicate(item)]


def scan_add(sequence):
    """The running sums."""
    total, sums = 0, []
    for item in sequence:
        total += item
        sums.append(total)
    return sums


def add_two_lists(one, other):
    """Sums of pairs, as long as the shorter one."""
    return [a + b for a, b in zip(one, other)]  # noqa: B905


def subtract_two_lists(one, other):
    """Differences of pairs, as long as the shorter one."""
    return [a - b for a, b in zip(one, other)]  # noqa: B905


def modulo_two_lists(one, other):
    """Remainders of pairs, without those whose divisor is zero."""
    return [a % b for a, b in zip(one, other) if b != 0]  # noqa: B905


def concatenate(one, other):
    """One behind the other."""
    return one + other


def interleave(one, other):
    """In turn from each, then the rest of the longer one."""
    size = min(len(one), len(other))
    mixed = [item for pair in zip(one, other) for item in pair]  # noqa: B905
    return mixed + one[size:] + other[size:]
