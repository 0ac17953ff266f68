"""What tells languages apart that the models confuse: words that one of them writes otherwise, and letters that it does not have.

Written down by hand from grammars, not learned: function words, common stems, the calendar. Languages of one group are listed only with
what the others of the group do not write. `sr` is meant in Latin letters there, as its Cyrillic has letters of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MAX_WORDS = 4
MAX_LETTERS = 3

_WORDS_OF: dict[str, str] = {
    "id": (
        "karena bisa yaitu bahwa uang mobil kantor perusahaan polisi universitas berbeda perbedaan coba mencoba situs silakan "
        "membutuhkan butuh tanggal januari februari maret juni juli agustus desember inggris jepang tiongkok prancis spanyol "
        "serikat kualitas aktivitas fasilitas komunitas identitas prioritas kapasitas standar proyek kode layanan unduh unggah "
        "mengunduh kontribusi tapi gratis jumat senin kamis ingin saat sedangkan kebutuhan rusia berkas tautan pengaturan yakni "
        "provinsi kabupaten kecamatan propinsi persen triliun miliar nggak gak kalian mulai berbagai bergabung kontak kontributor "
        "kebijakan pengiriman pemesanan toko terkait kesehatan keuangan jaringan perangkat pengembangan pengembang mengembangkan "
        "menampilkan menghapus perintah direktori selanjutnya yg utk pemerintah sepeda internasional nasional resmi karenanya "
        "olahraga kunjungi yakin nomor informasi lisensi memodifikasi riwayat arsip etnis otomatis pencarian lokal distribusi "
        "mendistribusikan tampilkan pustaka kredensial disabilitas spesifik kapan artinya"
    ),
    "ms": (
        "kerana bahawa ialah iaitu wang pejabat syarikat universiti berbeza perbezaan cuba mencuba sila mahu manakala apabila "
        "daripada kerajaan mesyuarat perniagaan projek kod perkhidmatan kandungan maklumat hendaklah sebarang tiada menerusi "
        "selepas semasa sahaja mac jun julai ogos disember inggeris jepun sepanyol jumaat isnin khamis ahad kualiti aktiviti "
        "fasiliti komuniti identiti kapasiti awak sekiranya peratus bilion kakitangan hospital polis pembangun perisian fail "
        "peringkat pelbagai kedua-dua ditubuhkan kesihatan kewangan peranti memaparkan memadam tempahan penghantaran kedai sesawang "
        "pautan tetapan pelayan antarabangsa kebangsaan rasmi sukan lawati hantar nombor basikal kepelbagaian lesen arkib etnik "
        "automatik carian tempatan pengedaran majoriti minoriti keutamaan"
    ),
    "sr": (
        "vreme deo dela mesto mesta mestu gde ovde negde uvek posle pre reč reči rečima svet sveta svetu ceo cela celo lepo lep "
        "deca dece mleko reka reke hteo želeo uspeh primer mera mere promena promene veoma opština opštine opšti predsednik "
        "predsednika poslednji poslednje nedelja sreda izveštaj pesma zahtev zahteva srpski srbija srbije srbiji sledeći sledeće "
        "telo tela delo zemlje vera verovatno mesec meseca meseci pobeda zvezda razumeti razume odeljenje čovek čoveka jednakost "
        "bezbednost bezbednosti obaveštenje stepen obrazovanje izvršni sopstveni sopstvene svešću jeste obezbedi obezbediti vek "
        "veka svetski odeljenja devojka nedelje čovečanstvo delova delu nasleđe posledica bezbedan obezbeđuje obezbeđuju"
    ),
    "sr bs": (
        "šta tokom ko neko niko svako hiljada hiljade voz evropski evropske evropa evrope evropi januar januara februar februara "
        "mart marta aprila maja juna jula augusta august septembar septembra oktobar oktobra novembar novembra decembar decembra "
        "uslov uslovi uslova univerzitet univerziteta muzika muzike tačka tačke tačno izvještaj izvještaja saradnja saradnje "
        "saradnju sistem sistema hljeb fajl fajla takođe nauka nauke fabrika uticaj uticaja spisak obavljati učestvovati učešće "
        "saradnik fudbal vazduh"
    ),
    "hr bs": (
        "vrijeme dio dijela mjesto mjesta mjestu gdje ovdje negdje uvijek poslije prije riječ riječi svijet svijeta svijetu cijeli "
        "cijela cijelo lijepo djeca djece mlijeko rijeka rijeke htio želio vidio uspjeh primjer mjera mjere promjena promjene "
        "predsjednik predsjednika posljednji posljednje nedjelja srijeda pjesma zahtjev zahtjeva sljedeći sljedeće tijelo tijela "
        "djelo vjera vjerojatno vjerovatno mjesec mjeseca mjeseci pobjeda zvijezda razumjeti čovjek čovjeka općina općine opći "
        "također dvije obje"
    ),
    "hr": (
        "tko netko nitko svatko tijekom tisuća tisuće vlak zrak kruh tvornica nogomet nogometni vlastiti vlastite priopćenje "
        "europski europske europa europe europi siječanj siječnja veljača veljače ožujak ožujka travanj travnja svibanj svibnja "
        "lipanj lipnja srpanj srpnja kolovoz kolovoza rujan rujna listopad listopada studeni studenog prosinac prosinca uvjet "
        "uvjeti uvjeta sveučilište sveučilišta ravnatelj glazba glazbe povijest povijesti znanost znanosti tjedan tjedna točka "
        "točke točno zaslon datoteka datoteke datoteku izvješće gospodarstvo sustav sustava suradnja suradnje suradnju sukladno "
        "hrvatski hrvatska hrvatske hrvatskoj zagreb zagrebu kazao skladba natjecanje promet izvanredni uporaba uporabe rabiti "
        "računalo računala tijela promidžba"
    ),
    "bs": (
        "historija historije kahva lahko mehko saopćenje bosna bosne bosni hercegovina hercegovine hercegovini bosanski sarajevo "
        "sarajeva sarajevu uposlenik federacije kanton kantona bošnjački ured sedmica sedmice"
    ),
    "nn": (
        "ikkje ein eit eg kva korleis frå vart dei mykje noko nokon nokre berre òg sjølv saman heile meir vere vera gjer gjekk kjem "
        "hjå dykk ho kven kvar kvifor difor framleis einaste fyrste sidan dess desse leggje fleire fleirtal norskt verta blir vorte "
        "vore skule skulen høgre veit anna ulike leia nynorsk einskild tilhøve røyst høve gonger verda same medan byrja anten "
        "åleine fridom eigen eige eigne"
    ),
    "nb": (
        "ikke en et jeg hva hvordan fra ble mye noe noen bare også selv sammen hele mer være gjør gikk kommer hos dere hun hvem "
        "hvor hvorfor derfor fremdeles eneste første siden disse flere norsk blitt vært skole skolen høyere vet sier si blant annet "
        "enn ganger kjente verden samme mens begynte hver hvert ham deres egen eget egne frihet enhver adgang bokmål uten"
    ),
    "af": (
        "nie hulle baie vir sy hy ek deur wees julle hierdie daardie sodat moes wou want 'n jou jy kry sal gebruik mense tyd gaan "
        "skool kinders gesê"
    ),
    "nl": (
        "niet zij veel voor hij zijn ik door deze zodat wordt worden zal moest wilde ze wij jullie naar tijd mijn heeft hebben "
        "waren werd geen meer zich kunnen moeten bij"
    ),
}
_YORUBA_WORDS = (
    "awon orile-ede orile ninu lati pelu nitori alakoso agba oloselu aare akoko ijoba ipinle odun osu gege tabi sugbon bakanna "
    "eniyan okunrin obinrin oruko tele naa gbogbo wipe nigba igba ariwa guusu iwo-oorun ila-oorun olorun "
    "asiwaju ilana ofin eto ohun nkan bii miran yoruba naijiria"
)
_YORUBA = frozenset(_YORUBA_WORDS.split())
_MARKS = re.compile("[\u0300-\u036f]")
_ALPHABETS: dict[str, str] = {
    "ru": "абвгдеёжзийклмнопрстуфхцчшщъыьэюя", "uk": "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя",
    "be": "абвгдеёжзійклмнопрстуўфхцчшыьэюя", "bg": "абвгдежзийклмнопрстуфхцчшщъьюяѝ",
    "sr": "абвгдђежзијклљмнњопрстћуфхцчџш", "mk": "абвгдѓежзѕијклљмнњопрстќуфхцчџшѐѝ",
    "kk": "аәбвгғдеёжзийкқлмнңоөпрстуұүфхһцчшщъыіьэюя", "ky": "абвгдеёжзийклмнңоөпрстуүфхцчшщъыьэюя",
    "mn": "абвгдеёжзийклмноөпрстуүфхцчшщъыьэюя", "tg": "абвгғдеёжзиӣйкқлмнопрстуӯфхҳчҷшъэюя",
    "tt": "аәбвгдеёжҗзийклмнңоөпрстуүфхһцчшщъыьэюя", "ba": "абвгғдҙеёжзийкҡлмнңоөпрҫстуүфхһцчшщъыьэәюя",
    "ar": "ابتثجحخدذرزسشصضطظعغفقكلمنهويءآأؤإئةى", "arz": "ابتثجحخدذرزسشصضطظعغفقكلمنهويءآأؤإئةىچپ",
    "fa": "ابپتثجچحخدذرزژسشصضطظعغفقکكگلمنوهیيىءآأؤإئۀة", "ckb": "ئابپتجچحخدرڕزژسشعغفڤقکكگلڵمنوۆهەھیێيءش",
    "ur": "ابپتٹثجچحخدڈذرڑزژسشصضطظعغفقکكگلمنںوهہھیيےئءآأؤۓۂۃة",
}  # fmt: skip
_SCRIPT_LETTERS = frozenset(map(chr, (*range(0x400, 0x530), *range(0x620, 0x64B), *range(0x66E, 0x6D4))))


def _shared(words: dict[str, str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for languages, listed in words.items():
        for word in dict.fromkeys(listed.split()):
            found.setdefault(word, []).extend(languages.split())
    return {word: tuple(languages) for word, languages in found.items()}


WORDS = _shared(_WORDS_OF)
GROUPS = (("id", "ms"), ("sr", "hr", "bs"), ("nn", "nb"), ("af", "nl"))
MARKED = frozenset(language for group in GROUPS for language in group)
ALPHABETS = {language: frozenset(letters) for language, letters in _ALPHABETS.items()}


def missing_marks(words: Iterable[str]) -> dict[str, int]:
    """How many marking words, 4 at most, each language of a close group has less than the one of the group that has most.

    `words` are lower-cased. Languages with none less are left out, so that a mark weighs within its group alone.
    """
    count: dict[str, int] = {}
    for word in set(words):
        for language in WORDS.get(word, ()):
            count[language] = count.get(language, 0) + 1
    if not count:
        return {}
    less: dict[str, int] = {}
    for group in GROUPS:
        most = max(count.get(language, 0) for language in group)
        less |= {language: min(most - n, MAX_WORDS) for language in group if (n := count.get(language, 0)) < most}
    return less


def yoruba_words(words: Iterable[str]) -> int:
    """How many different frequent words of Yoruba stand in the text, with tone marks and dots or without; 4 at most.

    Both models learned Yoruba from texts with every mark, and take one without for any language.
    """
    found = set(words)
    if not "".join(found).isascii():
        found = {_MARKS.sub("", unicodedata.normalize("NFD", word)) for word in found}
    return min(len(_YORUBA & found), MAX_WORDS)


def listed_letters(text: str) -> frozenset[str]:
    """The different Cyrillic and Arabic letters of `text`, of which `foreign_letters` speaks."""
    return frozenset() if text.isascii() else _SCRIPT_LETTERS.intersection(text)


def foreign_letters(letters: frozenset[str], language: str) -> int:
    """How many of these letters the language does not write, 3 at most; 0 where its alphabet is not listed."""
    alphabet = ALPHABETS.get(language)
    return min(len(letters - alphabet), MAX_LETTERS) if letters and alphabet else 0
