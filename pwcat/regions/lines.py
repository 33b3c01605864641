"""Where one continent ends and the next begins, as lines of longitude and latitude.

The lines were drawn by hand for this project, from the coordinates of towns, passes, peaks and confluences that are known to
lie on one side or the other. They are good to about 20 km at the Urals, to about 10 km along the Ural river, and lie in the
water, and so in no doubt, everywhere else but at the Suez canal (about 2 km).
"""

from __future__ import annotations

from typing import Final

__all__ = ["AFRICA_ASIA_SUEZ", "ASIA_OCEANIA_LYDEKKER", "EUROPE_ASIA_STRAITS", "EUROPE_ASIA_URALS", "Line"]

Line = tuple[tuple[float, float], ...]

# From the pole through the Kara sea, along the watershed of the Urals to the source of the Ural river, down that river to the
# Caspian sea, and through the sea. Novaya Zemlya, Vaygach and Franz Josef Land are Europe; Severnaya Zemlya is Asia.
EUROPE_ASIA_URALS: Final[Line] = (
    # the Kara sea
    (72.0, 90.0), (72.0, 77.4), (67.5, 75.0), (64.0, 73.0), (63.0, 71.0), (65.8, 69.6), (66.2, 69.0),
    # the watershed: Konstantinov Kamen, the pass of the railway to Labytnangi, Payer, Narodnaya
    (66.23, 68.49), (65.7, 68.1), (65.9, 67.7), (65.5, 67.3), (65.2, 67.03), (64.37, 66.72), (63.2, 66.2), (62.85, 66.0),
    (61.7, 65.6), (61.1, 65.3), (60.12, 65.04), (59.9, 64.8), (59.65, 64.4), (59.6, 63.8), (59.3, 63.4), (59.3, 63.0),
    (59.4, 62.4), (59.45, 61.76), (59.34, 61.66), (59.25, 61.0), (59.15, 60.3), (59.08, 59.5), (59.1, 59.0),
    # Promysla and Teplaya Gora to the west, Kachkanar and Kushva to the east
    (59.2, 58.58), (59.45, 58.3), (59.62, 58.0), (59.7, 57.7), (59.9, 57.4), (60.0, 57.2),
    # Pervouralsk to the west, Yekaterinburg to the east: the obelisks on Berezovaya and on the Moscow road
    (60.05, 56.87), (60.35, 56.83), (60.45, 56.65), (60.5, 56.4), (60.5, 56.15), (60.42, 55.9), (60.2, 55.62),
    # Zlatoust to the west, Karabash and Miass to the east
    (60.05, 55.45), (59.9, 55.25), (59.8, 55.12), (59.7, 54.95), (59.41, 54.70),
    # the Ural river: Verkhneuralsk, Magnitogorsk, Kizilskoye, Iriklinsky, Orsk
    (59.3, 54.3), (59.22, 53.88), (58.99, 53.42), (59.1, 53.2), (58.9, 52.72), (58.75, 52.2), (58.65, 51.66), (58.75, 51.4),
    (58.56, 51.2), (58.25, 51.17), (57.6, 51.15), (56.9, 51.2), (56.42, 51.39), (55.8, 51.6),
    # Orenburg and Oral on the right bank, to the north and west; Ilek, Chapaev, Taypak, Inderbor, Makhambet, Atyrau
    (55.1, 51.75), (54.5, 51.62), (53.9, 51.58), (53.38, 51.52), (52.5, 51.47), (51.9, 51.42), (51.45, 51.25), (51.42, 51.15),
    (51.25, 50.7), (51.2, 50.2), (51.4, 49.75), (51.8, 49.05), (51.74, 48.55), (51.55, 48.1), (51.6, 47.67), (51.92, 47.11),
    # the mouth, and the Caspian sea
    (51.7, 46.9), (51.2, 46.4), (49.5, 45.5), (49.4, 44.0), (50.0, 42.0), (50.6, 40.0),
)  # fmt: skip

# The Bosporus, the sea of Marmara (its islands are Asia), the Dardanelles, and west of Gökçeada into the Aegean.
EUROPE_ASIA_STRAITS: Final[Line] = (
    (29.2, 41.6), (29.13, 41.22), (29.07, 41.12), (29.05, 41.06), (29.01, 41.02), (28.95, 40.98),
    (28.3, 40.85), (27.5, 40.78), (26.95, 40.6), (26.75, 40.42), (26.67, 40.375), (26.45, 40.24), (26.385, 40.17),
    (26.37, 40.13), (26.28, 40.06), (26.12, 40.02), (26.1, 40.25), (25.5, 40.45), (25.0, 40.45),
)  # fmt: skip

# The Suez canal from Port Said, the gulf of Suez, and the Red sea south of Sinai.
AFRICA_ASIA_SUEZ: Final[Line] = (
    (32.35, 31.8), (32.31, 31.26), (32.31, 30.86), (32.30, 30.57), (32.35, 30.35), (32.57, 30.20), (32.58, 29.95),
    (32.55, 29.75), (32.65, 29.4), (32.95, 28.8), (33.4, 28.2), (33.85, 27.8), (34.12, 27.62), (34.9, 27.5),
)  # fmt: skip

# Lydekker's line, the edge of the Sahul shelf: Halmahera, Gebe, Seram, Gorong, Kei and Tanimbar are Asia; Ayu, Gag, Kofiau,
# Misool, Waigeo, Salawati, New Guinea and Aru are Oceania.
ASIA_OCEANIA_LYDEKKER: Final[Line] = (
    (130.5, 4.0), (130.4, 0.6), (129.72, 0.1), (129.7, -0.35), (129.1, -0.85), (129.0, -1.4), (129.4, -2.2), (130.9, -2.55),
    (131.5, -2.95), (132.0, -3.5), (132.3, -4.3), (133.5, -5.1), (133.7, -6.5), (133.0, -8.0), (132.6, -9.0), (132.0, -11.5),
)  # fmt: skip
