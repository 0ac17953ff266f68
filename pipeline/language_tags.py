"""Language tags (BCP 47): the one form in which languages are stored, declared and asked for, and what a tag covers.

A tag is a language, its shortest ISO 639 code, with a script where the language is written in several and the text shows which
(`zh-Hant`, `sr-Latn`), and with a region where a recipe names one (`pt-BR`; no model tells regions apart). A recipe's tag covers what is
narrower than itself: `zh` covers `zh-Hant`, and `no`, a macrolanguage of ISO 639-3, covers `nb` and `nn`.

Sources: ISO 639 and the aliases of Unicode CLDR 47; the labels of the models as their authors describe the training data.
"""

from __future__ import annotations

import functools
import re
from typing import Annotated

from pydantic import AfterValidator

from storage.strict import nearest

UNKNOWN = "und"

_TAG = re.compile(r"([A-Za-z]{2,3})(?:-([A-Za-z]{4}))?(?:-([A-Za-z]{2}|[0-9]{3}))?")
# ISO 639-2 and 639-3 codes of languages that have a shorter one, some by their standard member (arb, cmn, ekk); retired codes.
_SHORTER: dict[str, str] = dict(
    re.findall(
        r"(\w+):(\w+)",
        "aar:aa abk:ab afr:af aka:ak alb:sq als:sq amh:am ara:ar arb:ar arg:an arm:hy asm:as ava:av ave:ae aym:ay ayr:ay aze:az azj:az "
        "bak:ba bam:bm baq:eu bel:be ben:bn bis:bi bod:bo bos:bs bre:br bul:bg bur:my cat:ca ces:cs cha:ch che:ce chi:zh chu:cu chv:cv "
        "cmn:zh cor:kw cos:co cre:cr cym:cy cze:cs dan:da deu:de div:dv dut:nl dzo:dz ekk:et ell:el eng:en epo:eo est:et eus:eu ewe:ee "
        "fao:fo fas:fa fij:fj fin:fi fra:fr fre:fr fry:fy ful:ff gaz:om geo:ka ger:de gla:gd gle:ga glg:gl glv:gv gre:el grn:gn gug:gn "
        "guj:gu hat:ht hau:ha heb:he her:hz hin:hi hmo:ho hrv:hr hun:hu hye:hy ibo:ig ice:is ido:io iii:ii iku:iu ile:ie ina:ia ind:id "
        "ipk:ik isl:is ita:it jav:jv jpn:ja kal:kl kan:kn kas:ks kat:ka kau:kr kaz:kk khk:mn khm:km kik:ki kin:rw kir:ky kmr:ku kom:kv "
        "kon:kg kor:ko kpv:kv kua:kj kur:ku lao:lo lat:la lav:lv lim:li lin:ln lit:lt ltz:lb lub:lu lug:lg lvs:lv mac:mk mah:mh mal:ml "
        "mao:mi mar:mr may:ms mkd:mk mlg:mg mlt:mt mol:ro mon:mn mri:mi msa:ms mya:my nau:na nav:nv nbl:nr nde:nd ndo:ng nep:ne nld:nl "
        "nno:nn nob:nb nor:no npi:ne nya:ny oci:oc oji:oj ori:or orm:om ory:or oss:os pan:pa pbu:ps per:fa pes:fa pli:pi plt:mg pol:pl "
        "por:pt pus:ps que:qu quz:qu roh:rm ron:ro rum:ro run:rn rus:ru sag:sg san:sa scc:sr scr:hr sin:si slk:sk slo:sk slv:sl sme:se "
        "smo:sm sna:sn snd:sd som:so sot:st spa:es sqi:sq srd:sc srp:sr ssw:ss sun:su swa:sw swe:sv swh:sw tah:ty tam:ta tat:tt tel:te "
        "tgk:tg tgl:tl tha:th tib:bo tir:ti ton:to tsn:tn tso:ts tuk:tk tur:tr twi:tw uig:ug ukr:uk urd:ur uzb:uz uzn:uz ven:ve vie:vi "
        "vol:vo wel:cy wln:wa wol:wo xho:xh ydd:yi yid:yi yor:yo zha:za zho:zh zsm:ms zul:zu fil:tl in:id iw:he ji:yi jw:jv mo:ro bh:bho",
    )
)
_TWO_LETTERS = frozenset(code for code in _SHORTER.values() if len(code) == 2) | {"sh"}
# Languages that are part of a macrolanguage of ISO 639-3 and are told apart from its other members. Indonesian, a member of Malay by
# that standard, has a code and a written norm of its own everywhere else, and is left out.
_MACROLANGUAGE = {
    "nb": "no", "nn": "no", "yue": "zh", "wuu": "zh", "hak": "zh", "nan": "zh", "gan": "zh", "cdo": "zh",
    "arz": "ar", "ary": "ar", "apc": "ar", "arq": "ar", "ckb": "ku", "azb": "az",
}  # fmt: skip
# The script in which a language is nearly always written is left out of its tag. Chinese and Serbian have no such script here.
_USUAL_SCRIPT = {
    "az": "Latn", "bs": "Latn", "hr": "Latn", "kk": "Cyrl", "ku": "Latn", "ky": "Cyrl", "mn": "Cyrl", "ms": "Latn", "pa": "Guru",
    "sd": "Arab", "tg": "Cyrl", "tk": "Latn", "tt": "Cyrl", "ug": "Arab", "uz": "Latn", "ckb": "Arab", "yi": "Hebr", "en": "Latn",
}  # fmt: skip
_SCRIPT_OF_REGION = {
    ("zh", "CN"): "Hans", ("zh", "SG"): "Hans", ("zh", "TW"): "Hant", ("zh", "HK"): "Hant", ("zh", "MO"): "Hant"
}  # fmt: skip

# What the models call a language where that is not its tag: lid.176's are names of Wikipedias, of which `als` is written in Alemannic,
# `no` in Bokmål, `bh` in Bhojpuri and `sh` in Serbo-Croatian, Latin letters; eldc's `ku` is Kurdish in Arabic letters; heliport's are
# ISO 639-3, groups before members where those are hard to tell.
MODEL_TAGS: dict[str, dict[str, str]] = {
    "lid176": {"als": "gsw", "no": "nb", "bh": "bho", "sh": "sr-Latn"},
    "eldc": {"ku": "ckb", "no": "nb"},
    "heliport": {
        "hbs": "sr-Latn", "hbssrp": "sr", "hbsbos": "bs", "hbshrv": "hr", "msaind": "id", "msazsm": "ms", "msamin": "min", "msamalay": "ms",
        "estvro": "vro", "sagb": "sg", "zxx": UNKNOWN, "undhtml": UNKNOWN, "nor": "nb",
        **{f"fin{letter}": "fi" for letter in "fiklmnoprstvx"},
    },
}  # fmt: skip


def canonical(tag: str) -> str:
    """The one form of a BCP 47 tag: `iw` is he, `deu` de, `ZH-tw` zh-Hant-TW, `sh` sr-Latn, `az-Latn` az.

    Raises ValueError for what is none, and for two letters that are no code of ISO 639-1.
    """
    found = _TAG.fullmatch(tag)
    if not found:
        raise ValueError(f"{tag!r} is no BCP 47 tag: a language code, with a script or a region where one is meant (en, zh-Hant, pt-BR)")
    language, script, region = (part or "" for part in found.groups())
    language, script, region = language.lower(), script.title(), region.upper()
    language = _SHORTER.get(language, language)
    if len(language) == 2 and language not in _TWO_LETTERS:
        like = nearest(language, sorted(_TWO_LETTERS))
        raise ValueError(f"{tag!r}: {language!r} is no code of ISO 639-1" + (f" (as {', '.join(like)} are)" if like else ""))
    if language == "sh":
        language, script = "sr", script or "Latn"
    script = script or _SCRIPT_OF_REGION.get((language, region), "")
    if script == _USUAL_SCRIPT.get(language):
        script = ""
    return "-".join(part for part in (language, script, region) if part)


def widening(tag: str) -> tuple[str, ...]:
    """All tags that cover `tag` (in canonical form), the narrowest, itself, first: zh-Hant, zh; nb, no."""
    language, *rest = tag.split("-")
    tags = ["-".join((language, *rest[:n])) for n in range(len(rest), -1, -1)]
    return (*tags, _MACROLANGUAGE[language]) if language in _MACROLANGUAGE else tuple(tags)


def covers(wanted: str, tag: str) -> bool:
    """Whether a document of language `tag` is one in `wanted`; both in canonical form."""
    return wanted == tag or wanted in widening(tag)


@functools.cache
def model_tag(model: str, label: str) -> str:
    """The tag of what `model` calls `label`."""
    return MODEL_TAGS[model].get(label) or canonical(label)


LanguageTag = Annotated[str, AfterValidator(canonical)]
"""A field of a configuration that names a language; its value is in canonical form."""
