"""Sentences in 21 languages, with the legacy charsets that each is written in; for `generated_bodies`."""

# ruff: noqa: RUF001
from __future__ import annotations

# language: (sentences, labels of its legacy charsets)
TEXTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "en": (
        (
            "The ferry left at seven, and nobody on the quay — not even the harbour master — knew when it would be back.",
            "“We have carried letters, salt and goats,” said the captain, “but never a piano.”",
            "It’s a long way round the cape; the café on the far side opens only for the naïve and the patient.",
        ),
        ("windows-1252",),
    ),
    "fr": (
        (
            "Dès l’été, les élèves répétaient près de la forêt, où le vieux théâtre fermé était resté tel qu’il avait été.",
            "La mère de Zoé préférait les crêpes salées, mais son frère aîné réclamait déjà le gâteau à la crème brûlée.",
            "À l’hôtel, le maître d’équipage a protégé les blessés pendant que la marée montait très vite.",
            "Où êtes-vous allés après la fête ? Nous étions enchantés, émus et épuisés à la fois.",
        ),
        ("iso-8859-1", "windows-1252", "iso-8859-15"),
    ),
    "de": (
        (
            "Die Bäckerin öffnete früh die Tür, während draußen über den Dächern müde Möwen kreisten.",
            "Größere Übel gäbe es schließlich schon, erklärte der Köhler, und füllte nachdenklich die Säcke.",
            "Für die Gäste böte das Gasthaus süße Brötchen, kräftige Brühe und einen kühlen, trüben Most.",
            "Später hörten wir, daß die Züge wegen der Überschwemmung nicht führen; also übernachteten wir in Köln.",
        ),
        ("iso-8859-1", "windows-1252", "iso-8859-15"),
    ),
    "es": (
        (
            "Mañana el niño llevará la piñata al jardín, según prometió en la última reunión del comité.",
            "El capitán pidió más información sobre la expedición; después calló y miró el océano.",
            "¿Dónde está el camión que salió de León? Ningún peón lo vio pasar por aquí, señaló el dueño.",
            "Allá los árboles caían rápido, y la canción del río sonó también en la montaña.",
        ),
        ("iso-8859-1", "windows-1252"),
    ),
    "pt": (
        (
            "A estação ficava além da praça, e ninguém sabia a que horas chegaria o último comboio da manhã.",
            "Não há razão para discussão, disse a avó, enquanto servia pão, maçãs e café às crianças.",
            "Os cães da vizinhança só dormirão quando as celebrações terminarem na próxima terça-feira.",
        ),
        ("iso-8859-1", "windows-1252"),
    ),
    "pl": (
        (
            "Źródło leżało głęboko pod wzgórzem, więc pięć łodzi płynęło powoli w stronę śluzy.",
            "Że świat się śmieje, wiedział każdy żołnierz, który choć raz zgubił but w błocie.",
            "Późną jesienią gęsi odlatują na południe, a dzieci zbierają żołędzie, kasztany i żółte liście.",
            "Mój dziadek mówił, że najlepszą zupę gotuje się z cebuli, czosnku, śmietany i cierpliwości.",
        ),
        ("windows-1250", "iso-8859-2"),
    ),
    "cs": (
        (
            "Příliš žluťoučký kůň úpěl ďábelské ódy, když šel přes řeku k opuštěnému mlýnu.",
            "Děti běžely kolem stodoly, zatímco babička pekla koláče a šťastně si něco zpívala.",
            "V neděli ráno přišel pošťák s dopisem, který nikdo nečekal, a všichni ztichli.",
            "Nejvyšší věž ve městě stála na náměstí už tři sta let, než ji zničil požár.",
        ),
        ("windows-1250", "iso-8859-2"),
    ),
    "hu": (
        (
            "Az erdőben őzek és tűzoltók jöttek szembe, a hősök pedig győztek, ahogy a mesékben szokás.",
            "Később a főszakács elővette a legnagyobb üstöt, és sűrű, fűszeres gyümölcslevest főzött.",
            "Az idős nő a kőből épült ház előtt ült, és türelmesen várta a délutáni esőt.",
            "Hétfőn reggel a tanító új könyveket hozott, amelyekből mindenki kedvére válogathatott.",
        ),
        ("windows-1250", "iso-8859-2"),
    ),
    "tr": (
        (
            "Çocuklar ağaçların altında şarkı söylüyor, güneş ışığı gölün üstünde parıldıyordu.",
            "Yaşlı balıkçı, geçen kış kırılan kayığını onarmak için köyden tahta ve çivi getirdi.",
            "Öğretmenimiz bugün bize dağların nasıl oluştuğunu ve ırmakların nereye aktığını anlattı.",
        ),
        ("windows-1254", "iso-8859-9"),
    ),
    "lt": (
        (
            "Žvėrys išėjo į mišką, o žmonės džiaugėsi ąžuolų šešėliu prie seno vandens malūno.",
            "Močiutė kas rytą kepdavo šviežią ruginę duoną ir dalydavo ją visiems kaimynų vaikams.",
            "Pavasarį upė išsiliejo, tad į kitą krantą kėlėmės plaustu, kurį sukalė mano dėdė.",
        ),
        ("windows-1257", "iso-8859-13"),
    ),
    "ru": (
        (
            "Утром они вышли к реке и долго ждали парома, потому что паромщик ещё не проснулся.",
            "На другом берегу стоял старый дом с синими ставнями, и возле него паслись три козы.",
            "Никто не знал, откуда взялось это письмо, но все понимали: лето кончилось раньше срока.",
            "Бабушка достала из печи пироги, разлила чай и велела рассказывать всё с самого начала.",
        ),
        ("windows-1251", "koi8-r", "iso-8859-5"),
    ),
    "uk": (
        (
            "Уранці вони вийшли до річки й довго чекали на пором, бо поромник іще не прокинувся.",
            "Її мешканці їхали довго, а коли приїхали, то побачили лише порожні хати та високу траву.",
            "Бабуся дістала з печі пироги, розлила чай і звеліла розповідати все від самого початку.",
        ),
        ("windows-1251", "koi8-u"),
    ),
    "el": (
        (
            "Το πρωί βγήκαν στο ποτάμι και περίμεναν ώρα πολλή το καράβι, γιατί ο βαρκάρης κοιμόταν ακόμη.",
            "Στην άλλη όχθη στεκόταν ένα παλιό σπίτι με γαλάζια παράθυρα, και δίπλα του έβοσκαν κατσίκες.",
            "Η γιαγιά έβγαλε τις πίτες από τον φούρνο και ζήτησε να της τα πουν όλα από την αρχή.",
        ),
        ("windows-1253", "iso-8859-7"),
    ),
    "he": (
        (
            "בבוקר הם יצאו אל הנהר וחיכו שעה ארוכה למעבורת, כי בעל הסירה עדיין לא התעורר.",
            "בגדה השנייה עמד בית ישן עם תריסים כחולים, ולידו רעו שלוש עיזים לבנות.",
            "סבתא הוציאה את המאפים מן התנור, מזגה תה וביקשה לשמוע את הסיפור מהתחלה.",
        ),
        ("windows-1255", "iso-8859-8"),
    ),
    "ar": (
        (
            "في الصباح خرجوا إلى النهر وانتظروا العبارة طويلا لأن صاحب القارب لم يستيقظ بعد.",
            "على الضفة الأخرى كان هناك بيت قديم بنوافذ زرقاء وترعى بجانبه ثلاث عنزات.",
            "أخرجت الجدة الفطائر من الفرن وصبت الشاي وطلبت أن يحكوا لها كل شيء من البداية.",
        ),
        ("windows-1256", "iso-8859-6"),
    ),
    "th": (
        (
            "ในตอนเช้าพวกเขาออกไปที่แม่น้ำและรอเรือข้ามฟากอยู่นาน เพราะคนเรือยังไม่ตื่น",
            "อีกฝั่งหนึ่งมีบ้านเก่าหลังหนึ่งที่มีหน้าต่างสีฟ้า และมีแพะสามตัวกินหญ้าอยู่ข้างบ้าน",
            "คุณยายหยิบขนมออกจากเตา รินน้ำชา แล้วขอให้เล่าเรื่องทั้งหมดตั้งแต่ต้น",
        ),
        ("windows-874", "tis-620"),
    ),
    "zh": (
        (
            "早上他们来到河边，等了很久的渡船，因为船夫还没有起床。",
            "对岸有一座老房子，窗户是蓝色的，旁边有三只山羊在吃草。",
            "奶奶从炉子里拿出馅饼，倒了茶，让大家从头讲起。",
            "没有人知道这封信是从哪里来的，但是大家都明白，夏天提前结束了。",
        ),
        ("gbk", "gb2312", "gb18030"),
    ),
    "zh-hant": (
        (
            "早上他們來到河邊，等了很久的渡船，因為船夫還沒有起床。",
            "對岸有一座老房子，窗戶是藍色的，旁邊有三隻山羊在吃草。",
            "奶奶從爐子裡拿出餡餅，倒了茶，讓大家從頭講起。",
            "沒有人知道這封信是從哪裡來的，但是大家都明白，夏天提前結束了。",
        ),
        ("big5",),
    ),
    "ja": (
        (
            "朝、彼らは川に着いたが、船頭がまだ起きていなかったので、渡し船を長いあいだ待った。",
            "向こう岸には青い窓の古い家があり、そのそばで三匹の山羊が草を食べていた。",
            "祖母はかまどからパイを取り出し、お茶をいれて、最初から全部話すようにと言った。",
        ),
        ("shift_jis", "euc-jp", "iso-2022-jp"),
    ),
    "ko": (
        (
            "아침에 그들은 강가로 나갔지만 뱃사공이 아직 일어나지 않아서 나룻배를 오래 기다렸다.",
            "건너편에는 파란 창문이 달린 오래된 집이 있었고, 그 옆에서 염소 세 마리가 풀을 뜯고 있었다.",
            "할머니는 화덕에서 파이를 꺼내고 차를 따르며 처음부터 모두 이야기해 달라고 하셨다.",
        ),
        ("euc-kr",),
    ),
    "vi": (
        (
            "Buổi sáng họ ra bờ sông và chờ đò rất lâu, vì người lái đò vẫn chưa thức dậy.",
            "Bên kia sông có một ngôi nhà cổ với những ô cửa sổ màu xanh, cạnh đó ba con dê đang gặm cỏ.",
        ),
        (),
    ),
}
