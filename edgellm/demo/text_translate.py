"""Sentences in English with their French and Spanish translations, composed from the lexicon with agreement.

One register throughout: "you" is `vous` and `usted`; unstressed "I" and "we" are left out in Spanish.
"""

# ruff: noqa: E501, SIM905, ARG001
# A table row stays on one line, a list of words is one string, and all shapes have one signature.
from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from edgellm.demo.lexicon import ADJECTIVES, BY_ENGLISH, NOUNS, VERBS, Adjective, Noun, Verb, of_kinds
from edgellm.demo.values import CITIES, FIRST_NAMES, held


@dataclass(frozen=True, slots=True)
class Triple:
    """The same words in three languages."""

    en: str
    fr: str
    es: str


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase: its words, and what agrees with it. `person` indexes conjugations (0 I, 2 he, 3 we, 4 vous, 5 they)."""

    words: Triple
    person: int
    fr_gender: str = "m"
    es_gender: str = "m"
    plural: bool = False
    thing: Noun | None = None


_FIXED = """
Good morning.|Bonjour.|Buenos días.
Good morning!|Bonjour !|¡Buenos días!
Good morning|Bonjour|Buenos días
Good afternoon.|Bon après-midi.|Buenas tardes.
Good evening.|Bonsoir.|Buenas noches.
Good night.|Bonne nuit.|Buenas noches.
Hello.|Bonjour.|Hola.
Hello!|Bonjour !|¡Hola!
Hello|Bonjour|Hola
Hello, how are you?|Bonjour, comment allez-vous ?|Hola, ¿cómo está?
How are you?|Comment allez-vous ?|¿Cómo está?
How are you today?|Comment allez-vous aujourd'hui ?|¿Cómo está hoy?
I am fine, thank you.|Je vais bien, merci.|Estoy bien, gracias.
I am very well, thank you.|Je vais très bien, merci.|Estoy muy bien, gracias.
Thank you.|Merci.|Gracias.
Thank you!|Merci !|¡Gracias!
Thank you|Merci|Gracias
Thank you very much.|Merci beaucoup.|Muchas gracias.
Thank you very much!|Merci beaucoup !|¡Muchas gracias!
Thank you for your help.|Merci pour votre aide.|Gracias por su ayuda.
You are welcome.|De rien.|De nada.
Goodbye.|Au revoir.|Adiós.
Goodbye!|Au revoir !|¡Adiós!
See you tomorrow.|À demain.|Hasta mañana.
See you soon.|À bientôt.|Hasta pronto.
See you later.|À plus tard.|Hasta luego.
Please.|S'il vous plaît.|Por favor.
Excuse me.|Excusez-moi.|Disculpe.
I am sorry.|Je suis désolé.|Lo siento.
Yes.|Oui.|Sí.
No.|Non.|No.
Yes, please.|Oui, s'il vous plaît.|Sí, por favor.
No, thank you.|Non, merci.|No, gracias.
Of course.|Bien sûr.|Por supuesto.
What is your name?|Comment vous appelez-vous ?|¿Cómo se llama?
Nice to meet you.|Enchanté.|Encantado.
Where are you from?|D'où venez-vous ?|¿De dónde es?
Where do you live?|Où habitez-vous ?|¿Dónde vive?
Where are the toilets?|Où sont les toilettes ?|¿Dónde están los baños?
How old are you?|Quel âge avez-vous ?|¿Cuántos años tiene?
What time is it?|Quelle heure est-il ?|¿Qué hora es?
How much does it cost?|Combien ça coûte ?|¿Cuánto cuesta?
Do you speak English?|Parlez-vous anglais ?|¿Habla inglés?
Do you speak French?|Parlez-vous français ?|¿Habla francés?
Do you speak Spanish?|Parlez-vous espagnol ?|¿Habla español?
I do not understand.|Je ne comprends pas.|No entiendo.
I understand.|Je comprends.|Entiendo.
I do not know.|Je ne sais pas.|No sé.
Can you help me?|Pouvez-vous m'aider ?|¿Puede ayudarme?
Can you help me, please?|Pouvez-vous m'aider, s'il vous plaît ?|¿Puede ayudarme, por favor?
I need help.|J'ai besoin d'aide.|Necesito ayuda.
Help!|Au secours !|¡Socorro!
I am hungry.|J'ai faim.|Tengo hambre.
I am thirsty.|J'ai soif.|Tengo sed.
I am tired.|Je suis fatigué.|Estoy cansado.
I am lost.|Je suis perdu.|Estoy perdido.
I like music.|J'aime la musique.|Me gusta la música.
I love you.|Je vous aime.|Le quiero.
The bill, please.|L'addition, s'il vous plaît.|La cuenta, por favor.
It is raining.|Il pleut.|Llueve.
It is snowing.|Il neige.|Nieva.
It is hot.|Il fait chaud.|Hace calor.
It is cold.|Il fait froid.|Hace frío.
It is hot today.|Il fait chaud aujourd'hui.|Hace calor hoy.
It is cold today.|Il fait froid aujourd'hui.|Hace frío hoy.
The weather is nice.|Il fait beau.|Hace buen tiempo.
The weather is nice today.|Il fait beau aujourd'hui.|Hace buen tiempo hoy.
The weather is bad.|Il fait mauvais.|Hace mal tiempo.
Happy birthday!|Joyeux anniversaire !|¡Feliz cumpleaños!
Merry Christmas!|Joyeux Noël !|¡Feliz Navidad!
Happy new year!|Bonne année !|¡Feliz año nuevo!
Congratulations!|Félicitations !|¡Felicidades!
Good luck!|Bonne chance !|¡Buena suerte!
Welcome!|Bienvenue !|¡Bienvenidos!
Have a nice day.|Bonne journée.|Que tenga un buen día.
Have a good trip.|Bon voyage.|Buen viaje.
Enjoy your meal.|Bon appétit.|Buen provecho.
Be careful.|Faites attention.|Tenga cuidado.
Wait a moment, please.|Attendez un moment, s'il vous plaît.|Espere un momento, por favor.
Come in.|Entrez.|Entre.
Sit down, please.|Asseyez-vous, s'il vous plaît.|Siéntese, por favor.
Speak slowly, please.|Parlez lentement, s'il vous plaît.|Hable despacio, por favor.
It is not important.|Ce n'est pas important.|No es importante.
It is very good.|C'est très bon.|Está muy bueno.
That is right.|C'est vrai.|Es verdad.
I agree.|Je suis d'accord.|Estoy de acuerdo.
No problem.|Pas de problème.|No hay problema.
What is this?|Qu'est-ce que c'est ?|¿Qué es esto?
Who is it?|Qui est-ce ?|¿Quién es?
The meeting is over.|La réunion est terminée.|La reunión ha terminado.
The meeting starts tomorrow.|La réunion commence demain.|La reunión empieza mañana."""

_TIMES = """
today|aujourd'hui|hoy|0+
now|maintenant|ahora|0
every day|tous les jours|todos los días|0
every morning|tous les matins|todas las mañanas|0
in the morning|le matin|por la mañana|0
in the evening|le soir|por la noche|0
on Monday|lundi|el lunes|-+
on Tuesday|mardi|el martes|-+
on Wednesday|mercredi|el miércoles|-+
on Thursday|jeudi|el jueves|-+
on Friday|vendredi|el viernes|-+
on Saturday|samedi|el sábado|-+
on Sunday|dimanche|el domingo|-+
yesterday|hier|ayer|-
yesterday evening|hier soir|ayer por la noche|-
last week|la semaine dernière|la semana pasada|-
last year|l'année dernière|el año pasado|-
this morning|ce matin|esta mañana|-
two days ago|il y a deux jours|hace dos días|-
tomorrow|demain|mañana|+
tomorrow morning|demain matin|mañana por la mañana|+
next week|la semaine prochaine|la próxima semana|+
next month|le mois prochain|el próximo mes|+
this evening|ce soir|esta noche|+
soon|bientôt|pronto|+"""

_NUMBERS = tuple(
    Triple(*line.split("|"))
    for line in (
        "two|deux|dos three|trois|tres four|quatre|cuatro five|cinq|cinco six|six|seis seven|sept|siete "
        "eight|huit|ocho nine|neuf|nueve ten|dix|diez twelve|douze|doce twenty|vingt|veinte"
    ).split()
)
_OWNERS = (  # en, fr (m, f, plural), es (singular, plural)
    ("my", ("mon", "ma", "mes"), ("mi", "mis")),
    ("your", ("votre", "votre", "vos"), ("su", "sus")),
    ("our", ("notre", "notre", "nos"), ("nuestro", "nuestros")),
)
_DEFINITE = {"m": ("le", "les", "el", "los"), "f": ("la", "les", "la", "las")}
_PRONOUNS = (
    Phrase(Triple("I", "je", ""), 0),
    Phrase(Triple("you", "vous", "usted"), 4),
    Phrase(Triple("he", "il", "él"), 2),
    Phrase(Triple("she", "elle", "ella"), 2, "f", "f"),
    Phrase(Triple("we", "nous", ""), 3, plural=True),
    Phrase(Triple("they", "ils", "ellos"), 5, plural=True),
)
_BE_EN = ("am", "", "is", "are", "are", "are")
_BE_FR = ("suis", "es", "est", "sommes", "êtes", "sont")
_SER = ("soy", "eres", "es", "somos", "es", "son")
_ESTAR = ("estoy", "estás", "está", "estamos", "está", "están")
_HAVE_FR = ("ai", "as", "a", "avons", "avez", "ont")
_HAVE_ES = ("tengo", "tienes", "tiene", "tenemos", "tiene", "tienen")
_WANT = (
    ("veux", "veux", "veut", "voulons", "voulez", "veulent"),
    ("quiero", "quieres", "quiere", "queremos", "quiere", "quieren"),
)
_CAN = (
    ("peux", "peux", "peut", "pouvons", "pouvez", "peuvent"),
    ("puedo", "puedes", "puede", "podemos", "puede", "pueden"),
)
_MUST = (("dois", "dois", "doit", "devons", "devez", "doivent"), ("debo", "debes", "debe", "debemos", "debe", "deben"))
_GO = (("vais", "vas", "va", "allons", "allez", "vont"), ("voy", "vas", "va", "vamos", "va", "van"))
_LIVE = (
    ("habite", "habites", "habite", "habitons", "habitez", "habitent"),
    ("vivo", "vives", "vive", "vivimos", "vive", "viven"),
)
_PLACES_IN = ("garden", "kitchen", "house", "room", "park", "street", "library", "museum", "hospital", "shop", "church")
_CITIES = tuple(city for city in CITIES if not held(city))
_NOBODYS = ("man", "woman", "boy")  # "my woman" would be another word in French and Spanish
_JOBS = ("doctor", "teacher", "student")
_VOWEL = "aeéèêiîoôuyhœâAEÉÈÊIÎOÔUYHŒ"


def french(text: str) -> str:
    """Apply elision and contraction: `je ai` is `j'ai`, `de le` is `du`, `ma amie` is `mon amie`."""
    for wrong, right in (("de les", "des"), ("à les", "aux")):
        text = re.sub(rf"\b{wrong}\b", right, text)
    text = re.sub(rf"\b([JjLlNnDd]|qu)[ea] (?=[{_VOWEL}])", r"\1'", text)
    text = re.sub(r"\bde le\b", "du", text)
    text = re.sub(r"\bà le\b", "au", text)
    text = re.sub(rf"\bma (?=[{_VOWEL}])", "mon ", text)
    return re.sub(rf"\bce (?=[{_VOWEL}])", "cet ", text)


def spanish(text: str) -> str:
    """Apply contraction (`a el` is `al`) and drop what an omitted pronoun leaves behind."""
    text = re.sub(r"\ba el\b", "al", text)
    text = re.sub(r"\bde el\b", "del", text)
    return re.sub(r" +", " ", text).strip()


def _capital(text: str) -> str:
    at = next((index for index, letter in enumerate(text) if letter.isalpha()), 0)
    return text[:at] + text[at].upper() + text[at + 1 :] if text else text


def _statement(en: str, fr: str, es: str) -> Triple:
    return Triple(_capital(en) + ".", _capital(french(fr)) + ".", _capital(spanish(es)) + ".")


def _question(en: str, fr: str, es: str) -> Triple:
    return Triple(_capital(en) + "?", _capital(french(fr)) + " ?", "¿" + _capital(spanish(es)) + "?")


def _agree(adjective: Adjective, phrase_gender: tuple[str, str], plural: bool) -> tuple[str, str]:
    fr_gender, es_gender = phrase_gender
    return adjective.fr[(fr_gender == "f") + 2 * plural], adjective.es[(es_gender == "f") + 2 * plural]


def _adjective(random: Random, noun: Noun, *, state: bool | None = None) -> Adjective:
    shops = "shops" if noun in of_kinds("shops") else ""
    fits = [
        one
        for one in ADJECTIVES
        if (noun.kind in one.kinds.split() or (shops and shops in one.kinds.split())) and state in (None, one.state)
    ]
    return random.choice(fits)


def _has_adjective(noun: Noun, state: bool | None) -> bool:
    return any(noun.kind in one.kinds.split() and state in (None, one.state) for one in ADJECTIVES)


def noun_phrase(random: Random, noun: Noun, *, owners: bool = True) -> Phrase:
    """A noun with a determiner and sometimes an adjective."""
    owners = owners and noun.en not in _NOBODYS
    style = random.choice(("the", "the", "a", "a", "the+", "number", "owner" if owners else "the", "this"))
    plural = style in ("the+", "number")
    en, fr, es = (noun.ens, noun.frs, noun.ess) if plural else (noun.en, noun.fr, noun.es)
    if random.random() < 0.35 and _has_adjective(noun, False):
        one = _adjective(random, noun, state=False)
        french_form, spanish_form = _agree(one, (noun.fr_gender, noun.es_gender), plural)
        en = f"{one.en} {en}"
        fr = f"{french_form} {fr}" if one.early else f"{fr} {french_form}"
        es = f"{es} {spanish_form}"
    words = _determined(random, style, noun, (en, fr, es))
    return Phrase(words, 5 if plural else 2, noun.fr_gender, noun.es_gender, plural, noun)


def _determined(random: Random, style: str, noun: Noun, words: tuple[str, str, str]) -> Triple:
    en, fr, es = words
    fr_f, es_f = noun.fr_gender == "f", noun.es_gender == "f"
    if style == "number":
        number = random.choice(_NUMBERS)
        return Triple(f"{number.en} {en}", f"{number.fr} {fr}", f"{number.es} {es}")
    if style == "a":
        article = "an" if (en[0] in "aeiou" and not en.startswith("u")) or en.startswith("umb") else "a"
        return Triple(f"{article} {en}", f"{'une' if fr_f else 'un'} {fr}", f"{'una' if es_f else 'un'} {es}")
    if style == "this":
        return Triple(f"this {en}", f"{'cette' if fr_f else 'ce'} {fr}", f"{'esta' if es_f else 'este'} {es}")
    if style == "owner":
        owner, (fr_m, fr_fem, _), (es_one, _) = random.choice(_OWNERS)
        es_one = es_one[:-1] + "a" if es_one == "nuestro" and es_f else es_one
        return Triple(f"{owner} {en}", f"{fr_fem if fr_f else fr_m} {fr}", f"{es_one} {es}")
    many = style == "the+"
    return Triple(f"the {en}", f"{_DEFINITE[noun.fr_gender][many]} {fr}", f"{_DEFINITE[noun.es_gender][2 + many]} {es}")


def _the(noun: Noun) -> Phrase:
    words = Triple(
        f"the {noun.en}", f"{_DEFINITE[noun.fr_gender][0]} {noun.fr}", f"{_DEFINITE[noun.es_gender][2]} {noun.es}"
    )
    return Phrase(words, 2, noun.fr_gender, noun.es_gender, thing=noun)


def _subject(random: Random, names: tuple[str, ...]) -> Phrase:
    """A pronoun, a name (its gender is not needed where it is used), or a person."""
    style = random.random()
    if style < 0.55:
        return random.choice(_PRONOUNS)
    if style < 0.7:
        name = random.choice(names)
        return Phrase(Triple(name, name, name), 2)
    noun = random.choice(of_kinds("person"))
    style_ = random.choice(("the", "the+") if noun.en in _NOBODYS else ("the", "owner", "owner", "the+"))
    plural = style_ == "the+"
    words = (noun.ens, noun.frs, noun.ess) if plural else (noun.en, noun.fr, noun.es)
    return Phrase(
        _determined(random, style_, noun, words), 5 if plural else 2, noun.fr_gender, noun.es_gender, plural, noun
    )


def _time(random: Random, tense: str, chance: float = 0.4) -> Triple:
    if random.random() > chance:
        return Triple("", "", "")
    lines = [line.split("|") for line in _TIMES.strip().splitlines()]
    en, fr, es, _ = random.choice([line for line in lines if tense in line[3]])
    return Triple(f" {en}", f" {fr}", f" {es}")


def _place(random: Random, chance: float = 0.3) -> Triple:
    if random.random() > chance:
        return Triple("", "", "")
    noun = BY_ENGLISH[random.choice(_PLACES_IN)]
    the = _the(noun).words
    fr = "dans " if noun.en != "library" else "à "
    return Triple(f" in {the.en}", f" {fr}{the.fr}", f" en {the.es}")


def _es_person(person: int) -> int:
    return 2 if person == 4 else person


def _verb_phrase(random: Random, verb: Verb) -> tuple[Triple, bool]:
    """The object with its space, and whether Spanish wants the personal `a`."""
    if not verb.kinds:
        return Triple("", "", ""), False
    noun = random.choice(of_kinds(verb.kinds))
    words = noun_phrase(random, noun).words
    personal = "a " if noun.kind == "person" else ""
    return Triple(f" {words.en}", f" {words.fr}", f" {personal}{words.es}"), bool(personal)


def action(random: Random, names: tuple[str, ...]) -> Triple:
    """Somebody does, did, will do or does not do something."""
    verb, who = random.choice(VERBS), _subject(random, names)
    tense = random.choice("00-+!")
    if (
        verb.etre
        and tense == "-"
        and (who.person in (0, 3, 4) or not who.words.fr.startswith(("il", "elle", "le ", "la ")))
    ):
        tense = "+"
    what, _ = _verb_phrase(random, verb)
    where = _place(random, 0.0 if verb.etre else 0.1 if verb.kinds else 0.25)
    when = _time(random, "0" if tense == "!" else tense)
    en, fr, es = _conjugate(verb, who, tense)
    tail = [f"{a}{b}{c}" for a, b, c in zip(_parts(what), _parts(where), _parts(when), strict=True)]
    s = who.words
    if tense == "!":
        without = re.sub(r"^ une? ", " de ", tail[1])  # "pas un livre" is said "pas de livre"
        return _statement(f"{s.en} {en}{tail[0]}", f"{s.fr} ne {fr} pas{without}", f"{s.es} no {es}{tail[2]}")
    return _statement(f"{s.en} {en}{tail[0]}", f"{s.fr} {fr}{tail[1]}", f"{s.es} {es}{tail[2]}")


def _parts(triple: Triple) -> tuple[str, str, str]:
    return triple.en, triple.fr, triple.es


def _conjugate(verb: Verb, who: Phrase, tense: str) -> tuple[str, str, str]:
    person, es_person = who.person, _es_person(who.person)
    if tense == "+":
        return f"will {verb.en}", verb.fr_future[person], verb.es_future[es_person]
    if tense == "-":
        helper = _BE_FR[person] if verb.etre else _HAVE_FR[person]
        ending = ("e" if who.fr_gender == "f" else "") + ("s" if who.plural else "") if verb.etre else ""
        return verb.past, f"{helper} {verb.fr_participle}{ending}", verb.es_past[es_person]
    third = person == 2
    if tense == "!":
        return f"{'does' if third else 'do'} not {verb.en}", verb.fr_present[person], verb.es_present[es_person]
    return (verb.ens if third else verb.en), verb.fr_present[person], verb.es_present[es_person]


def wish(random: Random, names: tuple[str, ...]) -> Triple:
    """Want to, can, must, going to."""
    verb, who = random.choice(VERBS), _subject(random, names)
    what, _ = _verb_phrase(random, verb)
    when = _time(random, "+", 0.4)
    third = who.person == 2
    word, forms, es_link = random.choice(
        (
            ("wants to" if third else "want to", _WANT, ""),
            ("can", _CAN, ""),
            ("must", _MUST, ""),
            (f"{_BE_EN[who.person]} going to", _GO, "a "),
        )
    )
    fr_form, es_form = forms[0][who.person], forms[1][_es_person(who.person)]
    s = who.words
    return _statement(
        f"{s.en} {word} {verb.en}{what.en}{when.en}",
        f"{s.fr} {fr_form} {verb.fr_infinitive}{what.fr}{when.fr}",
        f"{s.es} {es_form} {es_link}{verb.es_infinitive}{what.es}{when.es}",
    )


def question(random: Random, names: tuple[str, ...]) -> Triple:
    """A yes-or-no question."""
    verb = random.choice(VERBS)
    who = random.choice((_PRONOUNS[1], _PRONOUNS[1], _subject(random, names)))
    what, _ = _verb_phrase(random, verb)
    when = _time(random, "0", 0.3)
    en = f"{'does' if who.person == 2 else 'do'} {who.words.en} {verb.en}{what.en}{when.en}"
    fr = f"est-ce que {who.words.fr} {verb.fr_present[who.person]}{what.fr}{when.fr}"
    return _question(en, fr, f"{who.words.es} {verb.es_present[_es_person(who.person)]}{what.es}{when.es}")


def description(random: Random, names: tuple[str, ...]) -> Triple:
    """Something is somehow."""
    noun = random.choice([one for one in NOUNS if one.kind not in ("ride",) and _has_adjective(one, None)])
    if noun.kind == "person" and random.random() < 0.6:
        who: Phrase = random.choice(_PRONOUNS[2:4] + _PRONOUNS[5:])
        adjective = random.choice([one for one in ADJECTIVES if "person" in one.kinds.split()])
    else:
        style = random.choice(("the", "the", "the+", "this" if noun.en in _NOBODYS else "owner", "this"))
        plural = style == "the+"
        words = (noun.ens, noun.frs, noun.ess) if plural else (noun.en, noun.fr, noun.es)
        who = Phrase(
            _determined(random, style, noun, words), 5 if plural else 2, noun.fr_gender, noun.es_gender, plural, noun
        )
        adjective = _adjective(random, noun)
    fr_form, es_form = _agree(adjective, (who.fr_gender, who.es_gender), who.plural)
    en_deg, fr_deg, es_deg = random.choice((("", "", ""), ("", "", ""), ("very ", "très ", "muy "), ("not ", "", "")))
    be = _ESTAR if adjective.state else _SER
    s, fr_be = who.words, _BE_FR[who.person]
    fr_be = f"ne {fr_be} pas" if en_deg == "not " else fr_be
    no = "no " if en_deg == "not " else ""
    return _statement(
        f"{s.en} {_BE_EN[who.person]} {en_deg}{adjective.en}",
        f"{s.fr} {fr_be} {fr_deg}{fr_form}",
        f"{s.es} {no}{be[_es_person(who.person)]} {es_deg}{es_form}",
    )


def whereabouts(random: Random, names: tuple[str, ...]) -> Triple:
    """There is something somewhere, where is something, something is somewhere, somebody goes somewhere."""
    noun = random.choice(of_kinds("thing media animal person food"))
    spot = _place(random, 1.0)
    goal = _the(random.choice(of_kinds("place")))
    style = random.randrange(5)
    if style == 0:
        many = random.random() < 0.4
        thing = _determined(random, "number" if many else "a", noun, _forms(noun, many))
        verb = "are" if many else "is"
        return _statement(
            f"there {verb} {thing.en}{spot.en}", f"il y a {thing.fr}{spot.fr}", f"hay {thing.es}{spot.es}"
        )
    if style == 1:
        return _question(f"where is {goal.words.en}", f"où est {goal.words.fr}", f"dónde está {goal.words.es}")
    if style == 2:
        who = _determined(
            random, "the" if noun.en in _NOBODYS else random.choice(("the", "owner")), noun, _forms(noun, False)
        )
        return _statement(f"{who.en} is{spot.en}", f"{who.fr} est{spot.fr}", f"{who.es} está{spot.es}")
    who_, when = _subject(random, names), _time(random, "0", 0.4)
    s, g = who_.words, goal.words
    go = "goes" if who_.person == 2 else "go"
    return _statement(
        f"{s.en} {go} to {g.en}{when.en}",
        f"{s.fr} {_GO[0][who_.person]} à {g.fr}{when.fr}",
        f"{s.es} {_GO[1][_es_person(who_.person)]} a {g.es}{when.es}",
    )


def _forms(noun: Noun, many: bool) -> tuple[str, str, str]:
    return (noun.ens, noun.frs, noun.ess) if many else (noun.en, noun.fr, noun.es)


def liking(random: Random, names: tuple[str, ...]) -> Triple:
    """I would like, I like, somebody has, how much does it cost."""
    noun = random.choice(of_kinds("food drink thing media animal door"))
    style = random.randrange(5)
    if style == 0:
        a = _determined(random, "a", noun, _forms(noun, False))
        return _statement(
            f"I would like {a.en}, please", f"je voudrais {a.fr}, s'il vous plaît", f"quisiera {a.es}, por favor"
        )
    if style == 1:
        the = _the(noun).words
        return _question(f"how much does {the.en} cost", f"combien coûte {the.fr}", f"cuánto cuesta {the.es}")
    if style == 2:
        many = random.random() < 0.5
        thing = _determined(random, "the+" if many else "this", noun, _forms(noun, many))
        no = random.random() < 0.3
        return _statement(
            f"I {'do not ' if no else ''}like {thing.en}",
            f"je {'ne ' if no else ''}aime {'pas ' if no else ''}{thing.fr}",
            f"{'no ' if no else ''}me gusta{'n' if many else ''} {thing.es}",
        )
    who, what = _subject(random, names), noun_phrase(random, noun, owners=False).words
    s = who.words
    return _statement(
        f"{s.en} {'has' if who.person == 2 else 'have'} {what.en}",
        f"{s.fr} {_HAVE_FR[who.person]} {what.fr}",
        f"{s.es} {_HAVE_ES[_es_person(who.person)]} {what.es}",
    )


def person(random: Random, names: tuple[str, ...]) -> Triple:
    """Names, cities, ages, jobs: words that stay as they are."""
    name, city = random.choice(names), random.choice(_CITIES)
    style = random.randrange(5)
    if style == 0:
        return _statement(f"my name is {name}", f"je m'appelle {name}", f"me llamo {name}")
    if style == 1:
        who = random.choice((*_PRONOUNS, Phrase(Triple(name, name, name), 2)))
        s, third = who.words, who.person == 2
        return _statement(
            f"{s.en} live{'s' if third else ''} in {city}",
            f"{s.fr} {_LIVE[0][who.person]} à {city}",
            f"{s.es} {_LIVE[1][_es_person(who.person)]} en {city}",
        )
    if style == 2:
        age = random.randint(5, 90)
        who = random.choice((*_PRONOUNS[:4], Phrase(Triple(name, name, name), 2)))
        s = who.words
        return _statement(
            f"{s.en} {_BE_EN[who.person]} {age} years old",
            f"{s.fr} {_HAVE_FR[who.person]} {age} ans",
            f"{s.es} {_HAVE_ES[_es_person(who.person)]} {age} años",
        )
    if style == 3:
        kin = random.choice([one for one in of_kinds("person") if one.fr_gender == "m" and one.en not in _NOBODYS])
        job = BY_ENGLISH[random.choice(_JOBS)]
        mine = _determined(random, "owner", kin, _forms(kin, False))
        return _statement(f"{mine.en} is a {job.en}", f"{mine.fr} est {job.fr}", f"{mine.es} es {job.es}")
    hour = random.randint(2, 12)
    ride = random.choice(of_kinds("ride"))
    the = _the(ride).words
    return _statement(
        f"{the.en} leaves at {hour} o'clock", f"{the.fr} part à {hour} heures", f"{the.es} sale a las {hour}"
    )


def fixed(random: Random, names: tuple[str, ...]) -> Triple:
    """A phrase of everyday courtesy."""
    return Triple(*random.choice(_FIXED.strip().splitlines()).split("|"))


SHAPES = (action, action, action, wish, question, description, description, whereabouts, liking, person, fixed)


def sentence(random: Random, names: tuple[str, ...] = FIRST_NAMES) -> Triple:
    """One sentence of any shape."""
    return random.choice(SHAPES)(random, names)


def passage(random: Random, names: tuple[str, ...] = FIRST_NAMES) -> Triple:
    """One to four sentences."""
    count = random.choices((1, 2, 3, 4), (70, 18, 8, 4))[0]
    parts = [sentence(random, names) for _ in range(count)]
    if count > 1:
        parts = [one for one in parts if one.en[-1] in ".?!"] or parts[:1]
    return Triple(*(" ".join(each) for each in zip(*(_parts(one) for one in parts), strict=True)))


COURTESY = frozenset(line.split("|")[0] for line in _FIXED.strip().splitlines())


def describe() -> list[str]:
    """Lines for people: times, numbers, courtesies, and the shapes of sentences with examples of each."""
    times = [line.split("|")[0] for line in _TIMES.strip().splitlines()]
    pronouns = [one.words.en for one in _PRONOUNS]
    lines = [
        f"Times: {', '.join(times)}.",
        f"Numbers in words: {', '.join(number.en for number in _NUMBERS)}; ages and hours in digits.",
        f"Determiners: the, a, this, {', '.join(owner for owner, _, _ in _OWNERS)}. Subjects: {', '.join(pronouns)}, people, first names.",
        'Names of people and cities stay as they are. "You" is formal (vous, usted).',
        "Shapes of sentences, and examples:",
    ]
    for shape in dict.fromkeys(SHAPES[:-1]):
        random = Random(len(lines))
        told = dict.fromkeys(shape(random, FIRST_NAMES).en for _ in range(12))
        lines.append(f"  {(shape.__doc__ or '').strip()} {' '.join(list(told)[:6])}")
    return [*lines, "Courtesies:", *(f"  {one}" for one in sorted(COURTESY))]
