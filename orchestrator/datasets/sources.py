"""Where published data sets are, under which licence, and the steps to get each by hand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TableFile:
    """A small table beside the images; ``columns`` must be in it, the image's name first."""

    name: str
    url: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """One published data set; ``{to}`` and ``{name}`` in ``steps`` are filled in."""

    folder: str
    page: str
    licence: str
    cite: str
    steps: tuple[str, ...]
    collection: int | None = None  # of the ISIC Archive; None: must be fetched by hand
    images: str = ""  # folder of the images
    tables: tuple[TableFile, ...] = ()


CHECK = "Look at it: fatefront data inspect '{{name: {name}, root: {to}}}'"
HAM10000_PAGE = "https://dataverse.harvard.edu/dataset.xhtml?persistentId=doi:10.7910/DVN/DBW86T"
ISIC_2019_PAGE = "https://challenge.isic-archive.com/data/#2019"
ISIC_2019_FILES = "https://isic-challenge-data.s3.amazonaws.com/2019"

SOURCES = {
    "ham10000": Source(
        folder="HAM10000",
        page=HAM10000_PAGE,
        licence="CC BY-NC 4.0, with the terms shown on the page",
        cite="Tschandl, Rosendahl and Kittler 2018, Scientific Data 5:180161",
        collection=66,  # "Challenge 2018: Task 3: Training", HAM10000's 10,015 images and no other
        images="HAM10000_images",
        tables=(
            TableFile(
                "HAM10000_metadata.csv",
                "https://dataverse.harvard.edu/api/access/datafile/4338392?format=original",
                ("image_id", "lesion_id", "dx", "age", "sex", "localization"),
            ),
        ),
        steps=(
            f"Open {HAM10000_PAGE} and accept the terms.",
            "Download HAM10000_images_part_1.zip and HAM10000_images_part_2.zip (2.8 GB together) "
            "and HAM10000_metadata, the latter in its original format (comma-separated).",
            "Unpack the archives into {to}/HAM10000_images_part_1 and "
            "{to}/HAM10000_images_part_2; save the metadata as {to}/HAM10000_metadata.csv.",
            CHECK,
        ),
    ),
    "isic2019": Source(
        folder="ISIC2019",
        page=ISIC_2019_PAGE,
        licence="CC BY-NC 4.0",
        cite="HAM10000 (Tschandl et al. 2018, Scientific Data 5:180161), BCN_20000 (Hospital "
        "Clínic de Barcelona), MSK (Codella et al. 2018, arXiv:1710.05006)",
        collection=65,  # "Challenge 2019: Training"
        images="ISIC_2019_Training_Input",
        tables=(
            TableFile(
                "ISIC_2019_Training_GroundTruth.csv",
                f"{ISIC_2019_FILES}/ISIC_2019_Training_GroundTruth.csv",
                ("image", "MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC"),
            ),
            TableFile(
                "ISIC_2019_Training_Metadata.csv",
                f"{ISIC_2019_FILES}/ISIC_2019_Training_Metadata.csv",
                ("image", "age_approx", "anatom_site_general", "lesion_id", "sex"),
            ),
        ),
        steps=(
            f"Open {ISIC_2019_PAGE}.",
            "Download ISIC_2019_Training_Input.zip (9.1 GB), ISIC_2019_Training_GroundTruth.csv "
            "and ISIC_2019_Training_Metadata.csv.",
            "Unpack the archive so that {to}/ISIC_2019_Training_Input holds ISIC_*.jpg; put both "
            "tables into {to}.",
            CHECK,
        ),
    ),
    "fitzpatrick17k": Source(
        folder="Fitzpatrick17k",
        page="https://github.com/mattgroh/fitzpatrick17k",
        licence="annotations CC BY-NC-SA 3.0; the photographs belong to DermaAmin and Atlas "
        "Dermatologico",
        cite="Groh et al. 2021, arXiv:2104.09957 (second annotation: Groh et al. 2022, "
        "arXiv:2207.02942)",
        steps=(
            "Open https://github.com/mattgroh/fitzpatrick17k and save fitzpatrick17k.csv as "
            "{to}/fitzpatrick17k.csv.",
            "Ask the authors for the images by the form that the page links to. (Fetching each "
            "from its `url` also works as long as both sites are up; 41 rows have none.)",
            "Unpack them so that {to}/data/finalfitz17k holds <md5hash>.jpg.",
            CHECK,
            "Find photographs that occur twice: fatefront data duplicates "
            "'{{name: {name}, root: {to}}}' --to {to}/duplicates.csv; then set data.duplicates="
            "{to}/duplicates.csv.",
        ),
    ),
    "pad_ufes_20": Source(
        folder="PAD-UFES-20",
        page="https://data.mendeley.com/datasets/zr7vgbcyr2/1",
        licence="CC BY 4.0",
        cite="Pacheco et al. 2020, Data in Brief 32:106221",
        steps=(
            "Open https://data.mendeley.com/datasets/zr7vgbcyr2/1 and download all files.",
            "Unpack the archive into {to}, and images/imgs_part_1.zip, imgs_part_2.zip and "
            "imgs_part_3.zip inside it where they are.",
            "{to} (or a folder directly in it) holds metadata.csv, and {to}/images/imgs_part_1 to "
            "imgs_part_3 hold PAT_*.png.",
            CHECK,
        ),
    ),
}
