"""Values that stand in generated texts: names, companies, streets, products, amounts. No sentences.

Every made value belongs to training or to evaluation for ever, by a hash of its words: `held` tells which.
"""

# ruff: noqa: SIM905, ARG001
# A list of words is one string, and all makers of values have one signature.
from __future__ import annotations

import zlib
from collections.abc import Callable
from random import Random

FIRST_NAMES = tuple(
    """Adam Aisha Alan Albert Alice Amara Amit Ana Andrea Anna Antoine Arjun Arthur Ben Bianca Brian Camille Carla Carlos
    Carol Cecilia Chen Chloe Claire Clara Daniel Daria David Deepa Diego Dmitri Dora Edgar Elena Elif Emil Emma Erik Eva
    Fatima Felix Fiona Frank Gabriel George Grace Greta Hana Hannah Hassan Helen Henry Hiroshi Hugo Ian Ibrahim Ingrid
    Irene Isabel Ivan Jack Jakob James Jane Jean Jenny John Jonas Jose Judith Julia Kamal Karen Karim Kate Kenji Kevin
    Lara Laura Lea Leo Liam Lin Linda Lisa Louis Lucas Lucia Lukas Magda Malik Marc Marco Maria Marie Mark Marta Martin
    Mary Matteo Maya Mei Michael Miguel Mila Mohamed Mona Nadia Naomi Nate Nick Nina Noah Nora Oliver Olga Omar Oscar
    Pablo Patrick Paul Paula Pedro Peter Petra Pierre Priya Rachel Rafael Rahul Ravi Rita Robert Rosa Ruth Sam Samir
    Samuel Sara Sofia Sonia Stefan Sunita Suresh Ted Teresa Thomas Tim Tom Uma Vera Victor Viktor Wei William Yara Yuki
    Yusuf Zoe Suvojit Sanjay Anil Kiran Bob Tony Max Luca Jan Nils Olaf Sven""".split()
)
LAST_NAMES = tuple(
    """Adams Ahmed Allen Almeida Anderson Bauer Baker Banerjee Barnes Becker Bell Bennett Berg Bianchi Brown Butler
    Campbell Carter Castro Chan Chavez Clark Cohen Collins Cook Cooper Costa Cruz Das Davies Diaz Dubois Edwards Evans
    Fernandez Fischer Fisher Flores Foster Fournier Garcia Ghosh Gomez Gonzalez Grant Gray Green Gupta Haddad Hall Hansen
    Harris Hernandez Hill Hoffmann Hughes Ibarra Ivanov Jackson Jansen Jensen Johnson Jones Kaur Keller Kelly Khan Kim
    King Klein Kovacs Kowalski Kumar Lambert Larsen Laurent Lee Lefebvre Lewis Li Lopez Lund Mader Martin Martinez Mason
    Mehta Mendez Meyer Miller Mitchell Moore Morales Moreau Morgan Moretti Morris Mueller Murphy Nakamura Nelson Nguyen
    Novak Okafor Olsen Ortiz Owens Parker Patel Perez Peterson Petrov Pham Phillips Popov Pot Price Ramirez Reed Reyes
    Richter Rivera Roberts Robinson Rossi Roy Russo Sanchez Santos Sato Schmidt Schneider Scott Sen Shah Sharma Silva
    Singh Smith Sousa Stewart Suzuki Tanaka Taylor Thompson Torres Turner Varga Vega Wagner Walker Wang Ward Watson Weber
    White Williams Wilson Wood Wright Yamada Yilmaz Young Zhang Zielinski Hore Bisson Vogel Fox Stone Rhodes""".split()
)
_LONG_CITIES = "New York|San Francisco|Los Angeles|Mexico City|Cape Town|Buenos Aires|Hong Kong|San Diego"
_SHORT_CITIES = """Amsterdam Athens Atlanta Austin Barcelona Berlin Bogota Bordeaux Boston Brussels Cairo Chicago Copenhagen
    Dallas Delhi Denver Dublin Geneva Hamburg Houston Istanbul Kolkata Kyoto Lagos Lima Lisbon London Lyon Madrid
    Manchester Marseille Miami Milan Montreal Mumbai Munich Nairobi Nantes Naples Oslo Paris Porto Prague Quito Rome
    Seattle Seoul Seville Singapore Stockholm Sydney Tokyo Toronto Toulouse Turin Valencia Vienna Warsaw Zurich Leeds
    Bristol Oxford Cambridge Boulder Portland Phoenix Salem Bonn Bern Basel Ghent Bruges Cork Galway Glasgow"""
CITIES = (*_SHORT_CITIES.split(), *_LONG_CITIES.split("|"))
STREET_WORDS = tuple(
    """Oak Maple Pine Cedar Elm Park Lake Hill River Church Mill High Main Station Garden Market King Queen Bridge School
    Victoria Albert Forest Meadow Spring Sunset Ocean Valley Castle Chapel Rose Lincoln Washington Jackson Franklin
    Harbor Orchard Willow Walnut Chestnut Birch Green North South East West First Second Third Fifth Samuel Bisson
    Baker Abbey Regent Canal Mission""".split()
)
STREET_KINDS = (
    "Street",
    "St.",
    "Road",
    "Rd.",
    "Avenue",
    "Ave.",
    "Lane",
    "Drive",
    "Square",
    "Boulevard",
    "Way",
    "Place",
    "Court",
)
STATES = ("NY", "CA", "TX", "MA", "IL", "WA", "FL", "OR", "CO", "NJ", "PA", "OH", "UK", "DC")
COMPANY_WORDS = tuple(
    """Acme Alpha Apex Arc Atlas Aurora Beacon Blue Bright Cascade Cedar Cobalt Crest Delta Echo Eagle Ember Falcon Fern
    Fusion Global Golden Granite Green Harbor Helix Horizon Iron Jade Keystone Lark Lotus Lumen Maple Meridian Metro Mira
    Nimbus North Nova Oak Omega Onyx Orbit Orion Pacific Pine Pioneer Polar Prime Pulse Quantum Quartz Raven Red River
    Sable Sierra Silver Sky Solar Spark Stellar Summit Swift Terra Titan Trident Union Vector Vertex Vista Wave Zenith
    Zephyr""".split()
)
COMPANY_KINDS = tuple(
    """Systems Software Foods Energy Logistics Labs Consulting Media Motors Partners Group Industries Solutions
    Technologies Analytics Health Bank Robotics Textiles Design Inc Ltd GmbH Corp LLC Co Works Studio Networks""".split()
)
PRODUCT_ADJECTIVES = tuple(
    """wireless blue red green black white leather wooden steel portable digital electric small large heavy light folding
    cotton glass ceramic outdoor compact foldable smart plastic silver golden round vintage""".split()
)
PRODUCT_NOUNS = tuple(
    """mouse keyboard chair desk lamp bottle backpack jacket headphones monitor printer cable charger speaker notebook
    pen mug blanket pillow toaster kettle blender drill hammer ladder tent stove bicycle helmet gloves boots watch
    camera tripod phone case router battery fan heater mirror shelf carpet curtain table sofa clock wallet umbrella
    scissors stapler binder folder basket bucket towel knife pan pot plate bowl scarf hat shirt""".split()
)
PRODUCT_NAMES = tuple(
    """Aero Bolt Breeze Cruz Dash Edge Flex Glide Halo Ion Jet Kite Luma Max Neo Optima Pixel Quick Rapid Sonic Turbo
    Ultra Volt Wing Xeno Zoom""".split()
)
SKILLS = tuple(
    """Python Java SQL Excel Linux Docker Rust cooking driving writing design testing accounting marketing German French
    Spanish welding photography teaching planning painting coaching research statistics sales gardening""".split()
)
JOBS = tuple(
    """engineer nurse accountant teacher designer manager analyst driver electrician chef plumber lawyer librarian
    architect developer technician salesperson pharmacist carpenter journalist mechanic receptionist""".split()
)
JOB_LEVELS = ("", "", "", "senior ", "junior ", "head ", "assistant ")
MONTHS = tuple("January February March April May June July August September October November December".split())
DAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
DOMAINS = ("com", "org", "net", "io", "fr", "co.uk", "de", "eu")
COLORS = tuple("red blue green black white yellow purple orange brown pink grey silver".split())
COUNTRIES = tuple(
    """France Spain Germany Italy Portugal India Japan China Brazil Mexico Canada Kenya Egypt Norway Sweden Poland
    Greece Ireland Chile Peru Austria Belgium Denmark Finland Turkey Vietnam""".split()
)
_ONSETS = "b br c ch cl d dr f g gr h j k kl l m n p pr r s sh st t tr v w z".split()
_VOWELS = "a e i o u a e i o ai ou ee ia".split()
_CODAS = ["", "", "", *"n r l s t m k nd rt ck x th v".split()]
SHARE = 12  # one value in twelve is for evaluation
_KEPT = frozenset("Suvojit Hore John Smith Samuel Ted Pot Bisson AB AZ".split())  # of the examples people try first


class Repeating(Random):
    """Random numbers for training, where some examples say the same names again and again.

    Evaluation draws from the few values that are kept for it, so that a guest is called as the host is, a street as a
    family; the long lists of training would hardly ever show that.
    """

    def begin(self) -> None:
        """Begin an example."""
        self.said: list[str] = []
        self.repeats = self.random() < 0.35

    def again(self, make: Callable[[], str]) -> str:
        """Return a word that this example has said, one that only begins like it, or make one."""
        if not self.repeats:
            return make()
        style = self.random() if self.said else 1.0
        if style < 0.3:
            return self.choice(self.said)
        word = make()
        if style < 0.45:
            alike = self.choice(self.said)[: self.randint(1, 4)] + invented(self).lower()
            word = word if held(alike) else alike
        self.said.append(word)
        return word


def held(value: str) -> bool:
    """Whether a value is kept for evaluation, by a hash that never changes."""
    return value in _KEPT or zlib.crc32(value.encode()) % SHARE == 0


def pick(random: Random, values: tuple[str, ...], evaluation: bool) -> str:
    """Draw a value of the wanted side; where a list is too short to have one, make one."""
    while True:
        value = random.choice(values)
        if held(value) == evaluation or random.random() < 0.002:
            return value if held(value) == evaluation else _made(random, lambda: invented(random), evaluation)


def _made(random: Random, make: Callable[[], str], evaluation: bool) -> str:
    while True:
        value = make()
        if held(value) == evaluation:
            return value


def invented(random: Random, least: int = 1, most: int = 3) -> str:
    """A word nobody has: syllables, capitalised."""
    syllables = random.randint(least, most)
    word = "".join(random.choice(_ONSETS) + random.choice(_VOWELS) + random.choice(_CODAS) for _ in range(syllables))
    return word.capitalize()


def word(random: Random, evaluation: bool, values: tuple[str, ...], chance: float = 0.35) -> str:
    """A listed or (with `chance`) an invented word, or one that this example has said before."""
    if isinstance(random, Repeating):
        return random.again(lambda: _word(random, evaluation, values, chance))
    return _word(random, evaluation, values, chance)


def _word(random: Random, evaluation: bool, values: tuple[str, ...], chance: float) -> str:
    if random.random() < chance:
        return _made(random, lambda: invented(random), evaluation)
    return pick(random, values, evaluation)


def common(random: Random, evaluation: bool, values: tuple[str, ...], chance: float = 0.3) -> str:
    """A listed word, or an invented one in small letters: short lists would be learned by heart instead of read."""
    if random.random() < chance:
        return _made(random, lambda: _small(random, evaluation), evaluation)
    return pick(random, values, evaluation)


# Words that have a piece of their own after a blank: what begins like one has other pieces there than behind a quotation mark.
_BEGINNINGS = tuple(
    """a an to we my no so in on at is it he go do be the or of and for are was with you can her his us up as if by
    me""".split()
)


def _small(random: Random, evaluation: bool) -> str:
    """An invented word in small letters, in training often one that begins like a common word."""
    word = invented(random).lower()
    return random.choice(_BEGINNINGS) + word if not evaluation and random.random() < 0.4 else word


def letters(random: Random, least: int, most: int) -> str:
    """Capitals."""
    return "".join(random.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(random.randint(least, most)))


def digits(random: Random, least: int, most: int) -> str:
    """Digits, the first not zero."""
    count = random.randint(least, most)
    return str(random.randint(1, 9)) + "".join(str(random.randint(0, 9)) for _ in range(count - 1))


def first_name(random: Random, evaluation: bool) -> str:
    """A first name."""
    return word(random, evaluation, FIRST_NAMES, 0.25)


def last_name(random: Random, evaluation: bool) -> str:
    """A family name, sometimes double."""
    name = word(random, evaluation, LAST_NAMES, 0.3)
    style = random.random()
    if style < 0.04:
        return f"{name}-{word(random, evaluation, LAST_NAMES)}"
    return f"{random.choice(('de', 'van', 'Mc', 'O')) + ' '}{name}" if style < 0.06 else name


def full_name(random: Random, evaluation: bool) -> str:
    """First and family name, sometimes a title, a second name or an initial."""
    first, last = first_name(random, evaluation), last_name(random, evaluation)
    style = random.random()
    if style < 0.06:
        return f"{random.choice(('Dr.', 'Mr.', 'Ms.', 'Mrs.', 'Prof.'))} {first} {last}"
    if style < 0.12:
        return f"{first} {random.choice('ABCDEFGHJKLMNPRSTW')}. {last}"
    return f"{first} {first_name(random, evaluation)} {last}" if style < 0.15 else f"{first} {last}"


def company(random: Random, evaluation: bool) -> str:
    """A company: two words, one word, two names, or capitals."""
    style = random.random()
    if style < 0.45:
        return f"{word(random, evaluation, COMPANY_WORDS, 0.3)} {random.choice(COMPANY_KINDS)}"
    if style < 0.65:
        return word(random, evaluation, COMPANY_WORDS, 0.6)
    if style < 0.75:
        return f"{word(random, evaluation, LAST_NAMES)} & {random.choice(('Sons', 'Co', word(random, evaluation, LAST_NAMES)))}"
    if style < 0.93:
        return _made(random, lambda: letters(random, 2, 4), evaluation)
    return f"{word(random, evaluation, LAST_NAMES)} {pick(random, COMPANY_WORDS, evaluation)} {random.choice(COMPANY_KINDS)}"


def street(random: Random, evaluation: bool) -> str:
    """A street, with or without number."""
    if random.random() < 0.25:
        name = _made(random, lambda: letters(random, 1, 3), evaluation)
    else:
        name = word(random, evaluation, STREET_WORDS, 0.4)
    full = f"{name} {random.choice(STREET_KINDS)}"
    style = random.random()
    if style < 0.5:
        return f"{digits(random, 1, 4)} {full}"
    if style < 0.7:
        return f"#{digits(random, 1, 3)} {full}"
    return full


def address(random: Random, evaluation: bool) -> str:
    """A street, sometimes with city, state or flat."""
    line, style = street(random, evaluation), random.random()
    if style < 0.45:
        return line
    if style < 0.62:
        return f"{line} {random.choice(STATES)}"
    if style < 0.85:
        return f"{line}, {city(random, evaluation)}"
    if style < 0.92:
        return f"{line}, {city(random, evaluation)}, {random.choice(STATES)}"
    return f"{line}, {random.choice(('Apt', 'Flat', 'Unit', 'Floor'))} {digits(random, 1, 2)}"


def city(random: Random, evaluation: bool) -> str:
    """A city, mostly a real one; in training more of those with two words, of which the lists hold few."""
    if not evaluation and random.random() < 0.15:
        return _made(random, lambda: _two_words(word(random, evaluation, CITIES, 0.6), random), evaluation)
    return word(random, evaluation, CITIES, 0.2)


def _two_words(name: str, random: Random) -> str:
    if random.random() < 0.4:
        return f"{random.choice(('New', 'Port', 'San', 'Saint', 'Fort', 'Lake', 'North', 'Los', 'La', 'El', 'Old'))} {name}"
    kinds = ("City", "City", "Falls", "Bay", "Hill", "Springs", "Beach", "Park", "Harbor", "Valley", "Town", "Island")
    return f"{name} {random.choice(kinds)}"


def email(random: Random, evaluation: bool) -> str:
    """An e-mail address in small letters."""
    first, last = first_name(random, evaluation).lower(), word(random, evaluation, LAST_NAMES).lower()
    local = random.choice(
        (
            f"{first}.{last}",
            first,
            f"{first[0]}{last}",
            f"{first}{digits(random, 1, 2)}",
            f"{last}_{first}",
            "info",
            "sales",
        )
    )
    return f"{local}@{word(random, evaluation, COMPANY_WORDS, 0.5).lower()}.{random.choice(DOMAINS)}"


def phone(random: Random, evaluation: bool) -> str:
    """A telephone number in one of a few shapes."""

    def make() -> str:
        shape = random.choice(
            (
                "555-####",
                "+## ### ### ###",
                "(###) ###-####",
                "0## ### ####",
                "###-###-####",
                "+# ### ### ####",
                "0# ## ## ## ##",
            )
        )
        if not evaluation and random.random() < 0.4:  # groups that repeat are hardest to copy
            few = random.sample("0123456789", random.randint(2, 4))
            return "".join(random.choice(few) if mark == "#" else mark for mark in shape)
        return "".join(str(random.randint(0, 9)) if mark == "#" else mark for mark in shape)

    return _made(random, make, evaluation)


def date(random: Random, evaluation: bool) -> str:
    """A date in one of a few shapes."""

    def make() -> str:
        day, month, year = random.randint(1, 28), random.randint(1, 12), random.randint(1995, 2030)
        name = MONTHS[month - 1]
        return random.choice(
            (
                f"{year}-{month:02}-{day:02}",
                f"{day} {name} {year}",
                f"{name} {day}, {year}",
                f"{day:02}/{month:02}/{year}",
                f"{day} {name}",
                f"{name} {day}",
            )
        )

    return _made(random, make, evaluation)


def code(random: Random, evaluation: bool) -> str:
    """An order, invoice or reference number as text."""

    def make() -> str:
        shape = random.choice(
            (
                "A-####",
                "AA####",
                "####",
                "#####",
                "AAA-###",
                "A#A-##",
                "INV-####",
                "ORD-####",
                "#-####",
                "AA-##-##",
                "##-####",
            )
        )
        return "".join(
            str(random.randint(0, 9))
            if mark == "#"
            else random.choice("ABCDEFGHJKLMNPQRSTUVWXYZ")
            if mark == "A"
            else mark
            for mark in shape
        )

    return _made(random, make, evaluation)


def product(random: Random, evaluation: bool) -> str:
    """A product: an adjective and a noun, a noun, or a brand and model."""
    style = random.random()
    noun = common(random, evaluation, PRODUCT_NOUNS)
    if style < 0.5:
        return f"{common(random, evaluation, PRODUCT_ADJECTIVES, 0.15)} {noun}"
    if style < 0.75:
        return noun
    brand = word(random, evaluation, PRODUCT_NAMES, 0.5)
    return (
        f"{brand} {noun}"
        if style < 0.85
        else f"{brand} {random.choice((digits(random, 1, 4), letters(random, 1, 2) + digits(random, 1, 3)))}"
    )


def job(random: Random, evaluation: bool) -> str:
    """A job title."""
    return random.choice(JOB_LEVELS) + common(random, evaluation, JOBS)


def anything(random: Random, evaluation: bool) -> str:
    """A value of any kind, for keys that mean nothing in particular."""
    kinds = (first_name, full_name, company, street, city, email, phone, date, code, product, job)
    style = random.random()
    if style < 0.1:
        return random.choice(COLORS)
    if style < 0.2:
        return random.choice(COUNTRIES)
    if style < 0.35:
        return " ".join(_made(random, lambda: invented(random), evaluation) for _ in range(random.randint(1, 3)))
    return random.choice(kinds)(random, evaluation)
