"""What the columns of the tables of `statistics` are called, and what they mean."""

from __future__ import annotations

ANISOTROPIC = "_anisotropic"
#: Columns about Friedel mates, without the ending of the anisotropic part.
OF_MATES = (
    "n_friedel", "r_friedel", "cc_friedel", "anomalous_over_sigma", "equivalents_over_sigma",
    "cc_half_anomalous",
)  # fmt: skip
#: Headings, without the ending of the anisotropic part.
SHORT_NAMES = {
    "cc_equivalents": "CC_eq",
    "cc_half": "CC½",
    "cc_half_error": "± CC½",
    "cc_star": "CC*",
    "r_int": "R_int",
    "r_meas": "R_meas",
    "variation_over_sigma": "var/σ",
    "n_voxels": "voxels",
    "n_unique": "unique",
    "n_pairs": "pairs",
    "completeness": "compl.",
    "multiplicity": "mult.",
    "mean_intensity": "⟨I⟩",
    "mean_i_over_sigma": "⟨I/σ⟩",
    "n_friedel": "pairs",
    "r_friedel": "R",
    "cc_friedel": "CC",
    "anomalous_over_sigma": "ΔI/σ",
    "equivalents_over_sigma": "others' ΔI/σ",
    "cc_half_anomalous": "CC½ of ΔI",
}
#: What a column tells, in a few words for people who did not make it.
MEANINGS = {
    "cc_equivalents": "correlation of voxels that the symmetry makes equal",
    "cc_half": "correlation of the maps of two random halves of the images: 1 all signal, 0 noise",
    "cc_half_error": "standard error of CC½",
    "cc_star": "what the map would correlate by with one free of noise, √(2 CC½/(1 + CC½))",
    "r_int": "mean relative difference of equivalents from their mean",
    "r_meas": "R_int corrected for how many equivalents there are",
    "variation_over_sigma": "variations with direction over their standard errors",
    "n_voxels": "voxels measured",
    "n_unique": "of these, ones that are not equivalent",
    "n_pairs": "pairs of equivalents",
    "completeness": "share of the possible ones that is measured",
    "multiplicity": "equivalents measured for each",
    "mean_intensity": "mean intensity",
    "mean_i_over_sigma": "mean of intensity over its standard error",
    "n_friedel": "pairs of Friedel mates",
    "r_friedel": "mean relative difference of mates",
    "cc_friedel": "correlation of mates",
    "anomalous_over_sigma": "difference of mates over its standard error",
    "equivalents_over_sigma": "the same of other equivalents: 1 where errors are right",
    "cc_half_anomalous": "correlation of these differences between the two halves",
}


def column_groups(names: list[str]) -> dict[str, list[str]]:
    """Sort columns, without limits of resolution, into tables: the whole intensity, its variations.

    Returns
    -------
    dict of str to list
        "whole", "anisotropic" and "mates".

    Examples
    --------
    >>> column_groups(["d_max", "d_min", "r_int", "r_int_anisotropic", "cc_friedel"])
    {'whole': ['r_int'], 'anisotropic': ['r_int_anisotropic'], 'mates': ['cc_friedel']}
    """
    rest = [name for name in names if name not in ("d_max", "d_min")]
    mates = [name for name in rest if name.removesuffix(ANISOTROPIC) in OF_MATES]
    varying = [name for name in rest if name not in mates and name.endswith(ANISOTROPIC)]
    whole = [name for name in rest if name not in mates and name not in varying]
    return {"whole": whole, "anisotropic": varying, "mates": mates}


def short_name(name: str, *, both: bool = False) -> str:
    """Heading of a column; ``both``: the table has some of the anisotropic part beside others.

    >>> short_name("cc_half_anisotropic"), short_name("r_friedel_anisotropic", both=True)
    ('CC½', 'R anis.')
    """
    stem = name.removesuffix(ANISOTROPIC)
    return SHORT_NAMES.get(stem, stem) + (" anis." if both and stem != name else "")
