"""Documents with facts in them, and the JSON that says those facts: sentences, `key: value` lines, notes, mails.

Every document is made from a record; the fields asked for are some of the record's facts, in any order.
"""

# ruff: noqa: E501, SIM905, ARG001, ARG005
# A set of phrasings stays on one line, a list of words is one string, and all makers of values have one signature.
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from edgellm.demo import values
from edgellm.prompt import Message
from edgellm.tasks import extract

Make = Callable[[Random, bool], Any]


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing a document may say: names for it, ways to say it, and how to make its value.

    `says` are sentences, `parts` are clauses that join others; both hold `{}`. A phrasing that starts with `*` occurs in
    evaluation only, one that starts with `+` in training only: what was added after the evaluation had been fixed.
    """

    keys: str
    make: Make
    says: str
    parts: str = ""
    kind: str = "string"
    notes: str = ""
    choices: tuple[str, ...] = ()


@dataclass(slots=True)
class Document:
    """A text and what it says: `known` maps a key to (fact, value); None where the text is silent."""

    text: str
    known: dict[str, tuple[Fact, Any]] = field(default_factory=dict)


def _number(least: int, most: int) -> Make:
    return lambda random, evaluation: random.randint(least, most)


def _amount(random: Random, evaluation: bool) -> float | int:
    style = random.random()
    if style < 0.4:
        return random.randint(2, 950)
    cents = random.choice((5, 25, 49, 50, 75, 95, 99, random.randint(1, 99)))
    return round(random.randint(1, 400) + cents / 100, 2)


def _many(make: Make) -> Make:
    return lambda random, evaluation: list(dict.fromkeys(make(random, evaluation) for _ in range(random.randint(2, 4))))


def _skill(random: Random, evaluation: bool) -> str:
    if random.random() < 0.85:
        return values.common(random, evaluation, values.SKILLS, 0.25)
    return values.word(random, evaluation, values.SKILLS, 1.0)


def _choice(*options: str) -> Make:
    return lambda random, evaluation: random.choice(options)


def _flag(random: Random, evaluation: bool) -> bool:
    return random.random() < 0.5


_STATUS = ("pending", "shipped", "delivered", "cancelled")
_PRIORITY = ("low", "medium", "high", "urgent")
_SIZE = ("small", "medium", "large")

ME = {
    "name": Fact(
        "name name name full_name fullname person user customer fullName Name",
        values.full_name,
        "My name is {}.|I am {}.|This is {}.|{} here.|I'm {}.|Hello, my name is {}.|Hi, I am {}.|Hello, I'm {}.|My full name is {}.|The name is {}.|People call me {}.|You may know me, I am {}.|Let me introduce myself: {}.|It is me, {}.|*You are talking to {}.|+They call me {}.|+Everyone knows me as {}.|+Greetings from {}.|+{} speaking.|+I go by {}.|+My parents named me {}.|+Signed in as {}.|+It is {} who writes to you.|+You have reached {}.|+On paper I am {}.|+Allow me: {}.|+I, {}, write this.|+The one writing this is {}.|+You may remember {}, that is me.|+In my passport it says {}.|+Call me {}.",
        "my name is {}|I am {}|my name is {}|+people call me {}|+this is {}|+I go by {}|+you know me as {}",
        notes="name of the person|full name",
    ),
    "company": Fact(
        "company company company employer organisation organization company_name workplace",
        values.company,
        "I work for {}.|I work at {}.|I am with {}.|I work in company {}.|My company is {}.|My employer is {}.|I joined {} last year.|I am employed at {}.|I have a job at {}.|My office is at {}.|I spend my days at {}.|I am paid by {}.|The firm I work for is {}.|*I earn my living at {}.|+My boss runs {}.|+{} pays my salary.|+I was hired by {}.|+{} is where I work.|+For ten years I have served {}.|+My contract is with {}.|+I started at {} in May.|+I represent {}.|+On weekdays I am at {}.|+My badge says {}.|+I am on the staff of {}.|+I do my job for {}.|+{} employs me.|+After school I went to {}.",
        "working in company {}|working at {}|working for {}|I work at {}|I work for {}|employed by {}|I am working in company {}|my company is {}|working in {}|+employed at {}|+I am with {}|+hired by {}|+my employer is {}|+on the staff of {}|+{} is my employer",
        notes="where the person works|employer",
    ),
    "address": Fact(
        "address address address home_address street street_address location",
        values.address,
        "My address is {}.|I live at {}.|Please write to {}.|You can find me at {}.|My home is at {}.|I moved to {}.|Letters go to {}.|You will find our house at {}.|Send mail to {}.|My post goes to {}.|Visit me at {}.|My place is {}.|*Post reaches me at {}.|+My house stands at {}.|+Come and see me at {}.|+Our flat is at {}.|+I have lived at {} since May.|+My front door is at {}.|+Parcels find me at {}.|+I rent a room at {}.|+We bought a house at {}.|+Drop it off at {}.|+{} is my address.|+Ring the bell at {}.|+My letterbox is at {}.|+My mail is delivered to {}.",
        "my address is {}|living at {}|I live at {}|residing at {}|and my address is {}|my home address is {}|+I reside at {}|+my house is at {}|+we live at {}|+my flat is at {}|+{} is my address",
        notes="postal address|street and number",
    ),
    "city": Fact(
        "city city town location place home_town",
        values.city,
        "My town is {}.|I stay in {}.|I live in {}.|I come from {}.|I am based in {}.|My city is {}.|I moved to {} recently.|+{} is my home.|+I call {} home.|+You will find me in {}.|+I settled in {}.|+At present I am in {}.|+My family lives in {}.|+The town I live in is {}.|+I have a flat in {}.",
        "living in {}|based in {}|I live in {}|I come from {}|my city is {}|+my town is {}|+at home in {}|+settled in {}|+I am from {}",
        notes="city where the person lives",
    ),
    "age": Fact(
        "age age age years",
        _number(5, 99),
        "I am {} years old.|My age is {}.|I turned {} last month.|I am {}.|+I just became {}.|+At {} I still learn.|+My last birthday was number {}.|+I am now {} years of age.|+I have {} years behind me.",
        "aged {}|I am {} years old|my age is {}|{} years old|+{} years of age|+I just turned {}|+I am {}",
        "integer",
        "age in years",
    ),
    "email": Fact(
        "email email e_mail mail email_address contact",
        values.email,
        "My email is {}.|Write to me at {}.|You can reach me at {}.|My e-mail address is {}.|Please send it to {}.|+Mail me at {}.|+My inbox is {}.|+Drop me a line at {}.|+Answers go to {}.|+{} is my e-mail.|+Use {} for questions.",
        "my email is {}|my e-mail address is {}|+you can mail me at {}|+write to me at {}|+{} is my email",
        notes="e-mail address",
    ),
    "phone": Fact(
        "phone phone telephone phone_number tel mobile",
        values.phone,
        "My telephone is {}.|The number to call is {}.|My phone number is {}.|Call me at {}.|You can call me on {}.|My number is {}.|Phone: {}.|+Ring me on {}.|+Dial {}.|+My mobile is {}.|+Text me at {}.|+I answer at {}.|+{} is my number.",
        "my phone number is {}|my number is {}|my phone is {}|+call me on {}|+you reach me on {}|+my mobile is {}",
        notes="telephone number",
    ),
    "job": Fact(
        "job job_title profession occupation role position",
        values.job,
        "I earn my money as a {}.|My profession is {}.|I am a {} by profession.|I work as a {}.|My job is {}.|I have been a {} for years.|+By trade I am a {}.|+They hired me as a {}.|+I make my money as a {}.|+On my card it says {}.|+I was trained as a {}.|+I am employed as a {}.",
        "working as a {}|I work as a {}|my job is {}|+employed as a {}|+a {} by trade|+I am a {}",
        notes="profession",
    ),
    "country": Fact(
        "country country nationality_country nation",
        lambda random, evaluation: values.word(random, evaluation, values.COUNTRIES, 0.25),
        "I was born in {}.|My country is {}.|I grew up in {}.|+I am a citizen of {}.|+My passport is from {}.|+My home country is {}.|+{} is where I was born.",
        "my country is {}|born in {}|+a citizen of {}|+I was born in {}",
    ),
    "languages": Fact(
        "skills skills languages abilities",
        _many(_skill),
        "My skills are {}.|I am good at {}.|I know {}.|My skills include {}.|+I have learned {}.|+What I do well: {}.|+On my list of skills are {}.|+You can ask me about {}.|+My strong points are {}.|+I studied {}.|+I have experience with {}.|+I like {}.",
        "my skills are {}|+I know {}|+I am good at {}|+my strong points are {}",
        "array",
    ),
}
THEY = {
    "name": Fact(
        "name name full_name person employee patient contact client customer member candidate",
        values.full_name,
        "The name is {}.|We spoke with {}.|Today we met {}.|{} joined the team.|{} wrote to us.|Please contact {}.|{} called this morning.|The new member is {}.|Notes on {}.|This is about {}.|We have news of {}.|{} was here today.|The person is {}.|Meet {}.|File of {}.|*A note about {}.|+We heard from {}.|+{} came by yesterday.|+A letter from {} arrived.|+The file belongs to {}.|+{} asked for help.|+We welcome {}.|+{} signed the form.|+We interviewed {}.|+An appointment for {}.|+{} is on the list.|+The form was filled in by {}.|+{} will visit us.|+The guest is {}.|+We got a call from {}.|+Record of {}.|+{} has been with us since spring.|+Say hello to {}.",
        notes="name of the person|full name",
    ),
    "company": Fact(
        "company company employer organisation firm organization",
        values.company,
        "The company is {}.|The employer is {}.|The contract is with {}.|Works at {}.|The visitor came from {}.|The firm is called {}.|+Employed by {}.|+{} is the employer.|+Comes from {}.|+Sent by {}.|+On behalf of {}.|+The business is named {}.",
        notes="where the person works",
    ),
    "address": Fact(
        "address address street location address_line",
        values.address,
        "The address is {}.|Lives at {}.|The office is at {}.|The parcel goes to {}.|Deliver to {}.|+Find it at {}.|+Postal address: {}.|+The house is at {}.|+Resides at {}.|+Letters should go to {}.|+The place to go is {}.",
    ),
    "city": Fact(
        "city city town place location",
        values.city,
        "The city is {}.|Based in {}.|The office is in {}.|The event takes place in {}.|It happened in {}.|+It is in {}.|+Located in {}.|+Lives in {}.|+The place is {}.|+Home town: {}.|+We met in {}.",
    ),
    "age": Fact(
        "age age years",
        _number(5, 99),
        "The age is {}.|Age: {}.|The patient is {} years old.|Aged {}.|+{} years old.|+Has reached the age of {}.|+Turned {} this year.|+The age given is {}.",
        "",
        "integer",
        "age in years",
    ),
    "email": Fact(
        "email email mail e_mail contact_email",
        values.email,
        "The email is {}.|Contact: {}.|Send questions to {}.|Apply at {}.|+Mail: {}.|+Write to {}.|+Reachable at {}.|+Mail goes to {}.|+E-mail: {}.",
    ),
    "phone": Fact(
        "phone phone telephone phone_number",
        values.phone,
        "The phone number is {}.|Call {}.|Phone: {}.|Reach us on {}.|+Phone number: {}.|+Ring {}.|+Telephone {}.|+The number is {}.|+Dial {}.",
    ),
    "job": Fact(
        "job job_title role position title",
        values.job,
        "The position is {}.|The role is {}.|Job title: {}.|We are looking for a {}.|We need a {}.|+Hired as a {}.|+Works as a {}.|+Employed as {}.|+The job is {}.|+The vacancy is for a {}.|+Profession: {}.",
    ),
    "date": Fact(
        "date date day due_date when start_date",
        values.date,
        "We plan it for {}.|The day is {}.|The date is {}.|It takes place on {}.|The deadline is {}.|It starts on {}.|Date: {}.|Due on {}.|It happened on {}.|+On {} it begins.|+Mark {} in your calendar.|+Planned for {}.|+It will be on {}.|+Open until {}.",
        notes="date as written",
    ),
    "remote": Fact(
        "remote remote remote_work home_office",
        _flag,
        "Remote work is possible.;Remote work is not possible.|You can work from home.;You cannot work from home.|Remote: yes.;Remote: no.",
        "",
        "boolean",
        "whether one can work from home",
    ),
    "salary": Fact(
        "salary salary pay yearly_salary",
        lambda random, evaluation: random.randint(18, 140) * 1000,
        "The salary is {}.|We pay {} a year.|Salary: {} euros.|The pay is ${} a year.|+The yearly salary is {}.|+{} euros a year.|+The wage is {} dollars.|+Pay: {}.|+Earns {} a year.",
        "",
        "integer",
    ),
    "skills": Fact(
        "skills skills requirements languages",
        _many(_skill),
        "Required skills: {}.|You should know {}.|Skills: {}.|The candidate knows {}.|+Must have {}.|+Knows {}.|+Good at {}.|+We look for {}.|+Experience: {}.|+Trained in {}.|+We ask for {}.",
        "",
        "array",
    ),
}
ORDER = {
    "customer": Fact(
        "customer customer customer_name client buyer name",
        values.full_name,
        "The customer is {}.|Ordered by {}.|{} placed an order.|{} bought something from us.|Customer: {}.|Bill to {}.|The buyer is {}.|An order from {}.|We sold this to {}.|It was bought by {}.|{} wants to buy.|For {}, our customer.|Client: {}.|*Sold to {}.|+{} bought it.|+The name of the client is {}.|+{} is the one who ordered.|+{} sent us an order.|+Please bill {}.|+The order came from {}.|+{} will pay.|+Invoice for {}.|+{} filled the cart.|+Purchased by {}.|+Our client is {}.|+On the invoice stands {}.|+{} asked us for an offer.|+It goes to {}, who ordered it.",
        notes="who bought it",
    ),
    "product": Fact(
        "product product item article product_name",
        values.product,
        "The product is a {}.|The order is for a {}.|Item: {}.|Product: {}.|The article is called {}.|One {} was ordered.|This is about the {}.|We sold one {}.|They want the {}.|A {} was bought.|It is for the {}.|*It concerns the {}.|+They bought the {}.|+One {} is in the parcel.|+In the box is a {}.|+The invoice is for a {}.|+We packed a {}.|+The goods: {}.|+A {} leaves the warehouse.|+The client chose the {}.|+Please send a {}.|+We deliver a {}.|+The cart holds a {}.|+Wanted: {}.",
        notes="what was bought",
    ),
    "quantity": Fact(
        "quantity quantity count amount units number",
        _number(1, 250),
        "The quantity is {}.|Quantity: {}.|We need {} pieces.|Units: {}.|{} pieces were ordered.|+{} of them.|+They took {}.|+Number of pieces: {}.|+{} units were sold.|+We pack {} of these.|+Please send {} pieces.",
        "",
        "integer",
        "number of pieces",
    ),
    "price": Fact(
        "price price total amount cost total_price",
        _amount,
        "The price is ${}.|The total is {} euros.|It costs {} dollars.|Price: {} EUR.|Total: ${}.|The cost was {}.|The bill is {} euros.|The customer paid {} dollars.|They paid {} euros.|The sum is {}.|We ask {} euros for it.|Amount due: {}.|*We charged {} euros.|+The amount is {}.|+To pay: {} euros.|+{} dollars in all.|+It was {} euros.|+The sum to pay is ${}.|+It is worth {} dollars.|+We got {} dollars.|+The invoice says {} euros.|+It went for {} euros.|+Cost: {}.|+All in all {} EUR.",
        "",
        "number",
        "price without currency",
    ),
    "id": Fact(
        "order_id order order_number id reference invoice_number number",
        values.code,
        "The order number is {}.|Order {}.|Reference: {}.|The reference is {}.|Invoice number {}.|Order ID: {}.|Your number is {}.|+The number of the order is {}.|+Filed under {}.|+Please quote {}.|+Number: {}.|+See invoice {}.|+Ref {}.",
        notes="reference as written",
    ),
    "date": Fact(
        "date date order_date delivery_date due_date day",
        values.date,
        "The date is {}.|Ordered on {}.|Delivery is planned for {}.|It will arrive on {}.|Date: {}.|Payment is due on {}.|+On {} it was ordered.|+Shipped on {}.|+Arrives {}.|+We got it on {}.",
        notes="date as written",
    ),
    "address": Fact(
        "address address delivery_address shipping_address ship_to",
        values.address,
        "Ship to {}.|Deliver to {}.|The delivery address is {}.|Send it to {}.|Address: {}.|+Goes to {}.|+To be delivered at {}.|+The parcel goes to {}.|+Bring it to {}.|+Destination: {}.",
    ),
    "email": Fact(
        "email email contact customer_email",
        values.email,
        "The email is {}.|Confirmation was sent to {}.|Contact: {}.|+Write to {}.|+The client can be reached at {}.|+Mail: {}.|+The receipt goes to {}.",
    ),
    "seller": Fact(
        "seller seller vendor supplier shop company",
        values.company,
        "Sold by {}.|The seller is {}.|The supplier is {}.|Shop: {}.|From {}.|+Bought at {}.|+{} sold it.|+The goods come from {}.|+Supplied by {}.|+Vendor: {}.",
    ),
    "status": Fact(
        "status status state order_status",
        _choice(*_STATUS),
        "The status is {}.|Status: {}.|The order is {}.|It is {}.|+State: {}.|+At the moment it is {}.|+Marked as {}.",
        "",
        "string",
        choices=_STATUS,
    ),
    "priority": Fact(
        "priority priority urgency",
        _choice(*_PRIORITY),
        "The priority is {}.|Priority: {}.|This has {} priority.|+Urgency: {}.|+Treat it as {}.|+It is of {} priority.",
        choices=_PRIORITY,
    ),
    "size": Fact(
        "size size product_size",
        _choice(*_SIZE),
        "The size is {}.|Size: {}.|It is a {} one.|+We need a {} one.|+In {} size.",
        choices=_SIZE,
    ),
    "color": Fact(
        "color color colour",
        lambda random, evaluation: values.common(random, evaluation, values.COLORS),
        "The color is {}.|Color: {}.|It is {} in color.|+The shade is {}.|+In {}, please.|+Painted {}.",
    ),
    "paid": Fact(
        "paid paid is_paid payment_received",
        _flag,
        "It has been paid.;It has not been paid.|The invoice is paid.;The invoice is not paid.|Paid: yes.;Paid: no.|The customer paid already.;The customer has not paid yet.",
        "",
        "boolean",
        "whether it has been paid",
    ),
    "items": Fact(
        "items items products articles",
        _many(values.product),
        "The items are {}.|Items: {}.|The order contains {}.|We send {}.|+In the parcel: {}.|+They bought {}.|+The list: {}.|+We packed {}.|+To deliver: {}.|+The cart holds {}.",
        "",
        "array",
    ),
}
EVENT = {
    "title": Fact(
        "event title name topic subject",
        lambda random, evaluation: (
            f"{values.word(random, evaluation, values.COMPANY_WORDS, 0.4)} {random.choice(('Day', 'Forum', 'Meeting', 'Summit', 'Workshop', 'Festival', 'Conference', 'Week'))}"
        ),
        "The event is called {}.|You are invited to the {}.|Join us at the {}.|The title is {}.|Event: {}.|+We invite you to the {}.|+It is time for the {}.|+The {} is coming.|+Do not miss the {}.|+Name of the event: {}.",
    ),
    "organizer": Fact(
        "organizer organizer host organiser speaker leader",
        values.full_name,
        "The organizer is {}.|It is hosted by {}.|The host is {}.|{} leads the event.|Speaker: {}.|+{} organizes it.|+It is run by {}.|+Led by {}.|+{} will speak.|+Your host: {}.|+In charge is {}.",
    ),
    "place": Fact(
        "place place location venue city where",
        values.city,
        "It takes place in {}.|We meet in {}.|The place is {}.|Location: {}.|See you in {}.|+Come to {}.|+The venue is {}.|+Held in {}.|+It happens in {}.|+Everybody meets in {}.",
    ),
    "date": Fact(
        "date date day when event_date",
        values.date,
        "It takes place on {}.|The date is {}.|Save the date: {}.|Date: {}.|It starts on {}.|+On {} we meet.|+Keep {} free.|+It is planned for {}.|+We meet on {}.",
    ),
    "time": Fact(
        "time time start start_time hour",
        lambda random, evaluation: random.choice(
            (
                f"{random.randint(7, 21)}:{random.choice(('00', '15', '30', '45'))}",
                f"{random.randint(1, 12)} {random.choice(('am', 'pm'))}",
            )
        ),
        "It starts at {}.|Doors open at {}.|Time: {}.|The time is {}.|We begin at {}.|+From {} on.|+We start at {}.|+Be there at {}.|+At {} we begin.|+Start: {}.",
    ),
    "attendees": Fact(
        "attendees attendees participants guests people names",
        _many(values.first_name),
        "The guests are {}.|Attendees: {}.|Present were {}.|{} will come.|Participants: {}.|+We expect {}.|+Guests: {}.|+There will be {}.|+Invited are {}.|+On the list are {}.|+{} took part.",
        "",
        "array",
    ),
    "price": Fact(
        "price price ticket_price fee cost",
        _amount,
        "A ticket costs ${}.|The fee is {} euros.|Price: {} EUR.|Entry is {} dollars.|+You pay {} euros.|+It costs ${} to enter.|+Tickets are {} dollars.|+Ticket: {}.",
        "",
        "number",
    ),
    "seats": Fact(
        "seats seats capacity places guests_count",
        _number(5, 900),
        "There are {} seats.|Capacity: {}.|We have room for {} people.|+{} people fit in.|+Seats: {}.|+The hall holds {}.|+Up to {} guests.",
        "",
        "integer",
    ),
    "email": Fact(
        "email email contact registration",
        values.email,
        "Register at {}.|Write to {}.|Contact: {}.|+Sign up at {}.|+Questions to {}.|+Mail {}.",
    ),
    "online": Fact(
        "online online is_online virtual",
        _flag,
        "You can join online.;You cannot join online.|Online: yes.;Online: no.",
        "",
        "boolean",
    ),
}
FRAMES = (ME, THEY, ORDER, EVENT)
ANY_KEYS = tuple(
    """team color code animal brand model route gate room driver captain owner author editor label region country source
    target version flight seat desk building floor department manager assistant doctor patient ward course tutor coach
    club river lake band song album film book chapter recipe dish drink fruit plant tree ship port station track engine
    tool part serial batch vendor plan branch owner_name pet nickname hobby school subject grade parent sponsor agent
    category type group unit server host language district street lastname firstname surname zip state""".split()
)
_NOISE = tuple(
    """Thank you for your time.|Please answer soon.|Have a nice day.|See you soon.|Best regards.|We look forward to it.|Kind
    regards.|Let me know what you think.|This is a short note.|It was a pleasure.|The weather was fine.|Please keep this
    note.|Nothing else to report.|More details will follow.|I hope you are well.|The rest can wait.|Thanks in advance.|No
    reply is needed.|Please check it again.|The team is happy.|We talked for an hour.""".replace("\n    ", " ").split(
        "|"
    )
)


def phrasing(random: Random, options: str, evaluation: bool) -> str:
    """One of the ways to say it; those marked `*` are for evaluation, those marked `+` for training."""
    return random.choice(phrasings(options, evaluation))


def phrasings(options: str, evaluation: bool) -> list[str]:
    """All ways to say it on one side."""
    found = [one for one in options.split("|") if not one.startswith("+" if evaluation else "*")]
    return [one.removeprefix("*").removeprefix("+") for one in found]


def spoken(random: Random, value: Any) -> str:
    """A value as a text says it."""
    if isinstance(value, list):
        style = random.random()
        if style < 0.5:
            return f"{', '.join(value[:-1])} and {value[-1]}" if len(value) > 1 else value[0]
        return ", ".join(value)
    if isinstance(value, bool):
        return random.choice(("yes", "true")) if value else random.choice(("no", "false"))
    if isinstance(value, int) and value >= 1000 and random.random() < 0.4:
        return f"{value:,}"
    return str(value)


def _say(random: Random, fact: Fact, value: Any, evaluation: bool) -> str:
    words = phrasing(random, fact.says, evaluation)
    if ";" in words:
        return words.split(";")[not value]
    told = articled(words.format(spoken(random, value)))
    return told.replace("..", ".") if told.endswith("..") else told


def articled(text: str) -> str:
    """Write `an` for `a` before a vowel."""
    return re.sub(r"\b([Aa]) (?=[aeio]|um)", r"\1n ", text)


def _key(random: Random, fact: Fact, taken: dict[str, Any]) -> str:
    free = [key for key in fact.keys.split() if key not in taken] or [f"{fact.keys.split()[0]}_{len(taken) + 1}"]
    return random.choice(free)


def _record(random: Random, frame: dict[str, Fact], count: int, evaluation: bool) -> dict[str, tuple[Fact, Any]]:
    """Draw facts from a frame; keys are unique, the order is that of the document."""
    known: dict[str, tuple[Fact, Any]] = {}
    names = random.sample(sorted(frame), min(count, len(frame)))
    if frame is ME and "name" not in names and random.random() < 0.7:
        names[0] = "name"
    if not evaluation and random.random() < 0.35:  # lists are what is hardest to copy
        lists = [name for name in sorted(frame) if frame[name].kind == "array" and name not in names]
        names[-1] = random.choice(lists or names[-1:])
    for name in names:
        fact = frame[name]
        known[_key(random, fact, known)] = (fact, fact.make(random, evaluation))
    return known


def sentences(random: Random, count: int, evaluation: bool) -> Document:
    """Facts as sentences, in any order, with some noise between them."""
    frame = random.choice(FRAMES)
    known = _record(random, frame, count, evaluation)
    said = [_say(random, fact, value, evaluation) for fact, value in known.values()]
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        said.insert(random.randint(0, len(said)), random.choice(_NOISE))
    return Document(random.choice((" ", " ", "\n")).join(said), known)


def self_introduction(random: Random, count: int, evaluation: bool) -> Document:
    """One sentence in the first person: clauses joined by commas and `and`."""
    known = _record(random, {key: fact for key, fact in ME.items() if fact.parts}, count, evaluation)
    said = [(phrasing(random, fact.parts, evaluation), spoken(random, value)) for fact, value in known.values()]
    clauses = [articled(phrase.format(value).removeprefix("and ")) for phrase, value in said]
    last = random.choice((" and ", " and ", ", and ", ", "))
    text = last.join((", ".join(clauses[:-1]), clauses[-1])) if len(clauses) > 1 else clauses[0]
    hello = random.choice(("", "", "", "Hello, ", "Hi, "))
    if not hello and not said[0][0].startswith("{}"):  # a value is written as it is
        text = text[0].upper() + text[1:]
    text = hello + text
    return Document(text + random.choice((".", ".", "", "")), known)


def key_lines(random: Random, count: int, evaluation: bool) -> Document:
    """`key: value` lines; the label is mostly the key itself."""
    frame = random.choice(FRAMES)
    known = _record(random, frame, count, evaluation)
    if random.random() < 0.5:
        known.update(_loose(random, random.randint(1, 3), evaluation, known))
        known = dict(random.sample(list(known.items()), min(count, len(known))))
    separator = random.choice((": ", ": ", ": ", ": ", " = ", " - ", ":"))
    dress = random.choice((str, str, str, str.capitalize, str.upper, lambda key: key.replace("_", " ").capitalize()))
    end = random.choice(("", "", "", ";", "."))
    lines = [
        f"{dress(_label(random, key, fact))}{separator}{spoken(random, value)}{end}"
        for key, (fact, value) in known.items()
    ]
    lines = [line.removesuffix(".") if line.endswith("..") else line for line in lines]
    return Document(
        random.choice(("\n", "\n", "\n", ", ", "; ", " ")).join(lines) if not end else "\n".join(lines), known
    )


def _label(random: Random, key: str, fact: Fact) -> str:
    same = fact.keys.split()
    return random.choice(same) if random.random() < 0.12 and key == same[0] else key


def _loose(random: Random, count: int, evaluation: bool, taken: dict[str, Any]) -> dict[str, tuple[Fact, Any]]:
    """Facts of no particular kind, under any key."""
    fresh = [key for key in ANY_KEYS if key not in taken]
    return {
        key: (Fact(key, values.anything, "The {key} is {}.".replace("{key}", key)), values.anything(random, evaluation))
        for key in random.sample(fresh, count)
    }


_LOOSE = (
    "The {} is {}.|The {} is {}.|{}: {}.|Its {} is {}.|For {} we have {}.|+As to the {}, it is {}.|+You asked for the {}: {}.|"
    "+The {} of it is {}.|+We noted {} {}.|+The {} will be {}.|+Somebody chose the {} {}.|+The {} that we found was {}.|+About the {}: {}."
)


def loose(random: Random, count: int, evaluation: bool) -> Document:
    """`The key is value.` for any key."""
    known = _loose(random, count, evaluation, {})
    form = phrasing(random, _LOOSE, evaluation)
    said = [form.format(key.replace("_", " "), value) for key, (_, value) in known.items()]
    said = [one[0].upper() + one[1:] for one in said]
    return Document(" ".join(said), known)


def identity(random: Random, count: int, evaluation: bool) -> Document:
    """First and family name apart, an address, as lines."""
    make: dict[str, Fact] = {
        "name": Fact("name name name firstname first_name", values.first_name, ""),
        "lastname": Fact("lastname lastname last_name surname", values.last_name, ""),
        "address": Fact(
            "address address address street", values.street if random.random() < 0.7 else values.address, ""
        ),
        "city": Fact("city city town", values.city, ""),
        "phone": Fact("phone phone tel", values.phone, ""),
        "age": Fact("age", _number(5, 99), "", "", "integer"),
    }
    names = [*list(make)[:3], *list(make)[3:]][: max(2, count)]
    if random.random() < 0.35:
        random.shuffle(names)
    known: dict[str, tuple[Fact, Any]] = {}
    for name in names:
        fact = make[name]
        known[_key(random, fact, known)] = (fact, fact.make(random, evaluation))
    separator = random.choice((": ", ": ", ": ", " = ", ":"))
    lines = [f"{key}{separator}{value}" for key, (_, value) in known.items()]
    return Document(random.choice(("\n", "\n", "\n", ", ")).join(lines), known)


def split_name(random: Random, count: int, evaluation: bool) -> Document:
    """A whole name in the text, first and family name wanted apart."""
    first, last = values.first_name(random, evaluation), values.word(random, evaluation, values.LAST_NAMES)
    known = _record(random, {key: fact for key, fact in ME.items() if key != "name"}, max(1, count - 2), evaluation)
    said = [random.choice(ME["name"].says.split("|")[:8]).format(f"{first} {last}")]
    said += [_say(random, fact, value, evaluation) for fact, value in known.values()]
    one, two = random.choice(
        (("first_name", "last_name"), ("firstname", "lastname"), ("name", "lastname"), ("given_name", "surname"))
    )
    both = {one: (Fact(one, values.first_name, ""), first), two: (Fact(two, values.last_name, ""), last)}
    return Document(" ".join(said), both | known)


def mail(random: Random, count: int, evaluation: bool) -> Document:
    """A short mail: greeting, facts, signature."""
    to, sender = values.first_name(random, evaluation), values.full_name(random, evaluation)
    body = sentences(random, max(1, count - 2), evaluation)
    subject = f"{random.choice(('Order', 'Meeting', 'Question', 'Invoice', 'Visit'))} {values.word(random, evaluation, values.COMPANY_WORDS)}"
    text = f"{random.choice(('Dear', 'Hello', 'Hi'))} {to},\n{body.text}\n{random.choice(('Best regards', 'Regards', 'Thanks', 'Kind regards'))},\n{sender}"
    extra = {
        random.choice(("sender", "from", "signed_by")): (
            Fact("sender", values.full_name, "", notes="who wrote it"),
            sender,
        ),
        random.choice(("recipient", "to", "addressee")): (
            Fact("recipient", values.first_name, "", notes="who gets it"),
            to,
        ),
    }
    if random.random() < 0.4:
        text = f"Subject: {subject}\n{text}"
        extra["subject"] = (Fact("subject", values.company, ""), subject)
    return Document(text, extra | {key: known for key, known in body.known.items() if key not in extra})


SHAPES: tuple[tuple[Callable[[Random, int, bool], Document], int], ...] = (
    (sentences, 30),
    (self_introduction, 18),
    (key_lines, 22),
    (loose, 8),
    (identity, 8),
    (split_name, 5),
    (mail, 9),
)


def property_of(random: Random, fact: Fact, *, nullable: bool) -> dict[str, Any]:
    one: dict[str, Any] = {"type": fact.kind}
    if fact.kind == "array":
        one["items"] = {"type": "string"}
    if fact.choices and random.random() < 0.7:
        one["enum"] = list(fact.choices) + ([None] if nullable else [])
    if nullable:
        one["type"] = [one["type"], "null"]
    if fact.notes and random.random() < 0.12:
        one["description"] = random.choice(fact.notes.split("|"))
    return one


def schema_of(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _fields(random: Random, document: Document, most: int, *, silent: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Choose the wanted keys, their order, their schema and the answer; `silent`: how often some are not in the text."""
    keys = list(document.known)
    if len(keys) > most or random.random() < 0.25:
        keys = random.sample(keys, random.randint(1, min(most, len(keys))))
    elif random.random() < 0.35:
        random.shuffle(keys)
    absent: dict[str, Fact] = {}
    if random.random() < silent:
        spare = [(name, fact) for frame in FRAMES for name, fact in frame.items()]
        said = {id(fact) for fact, _ in document.known.values()}
        made = {fact.make for fact, _ in document.known.values()}
        for _, fact in random.sample(spare, max(0, min(random.randint(1, 2), most - len(keys)))):
            key = fact.keys.split()[0]
            if id(fact) not in said and fact.make not in made and key not in document.known:
                absent[key] = fact
    nullable = bool(absent)
    wanted = keys + list(absent)
    if absent:
        random.shuffle(wanted)
    properties, answer = {}, {}
    for key in wanted:
        fact, value = document.known[key] if key in document.known else (absent[key], None)
        properties[key] = property_of(random, fact, nullable=key in absent or (nullable and random.random() < 0.6))
        answer[key] = value
    return properties, answer


def _as_class(random: Random, properties: dict[str, Any]) -> dict[str, Any]:
    """The schema as pydantic writes it: titles, and `anyOf` for what may be null."""
    made: dict[str, Any] = {}
    for key, one in properties.items():
        title = {"title": key.replace("_", " ").title()}
        if isinstance(one["type"], list):
            rest = {name: value for name, value in one.items() if name not in ("type", "enum")}
            made[key] = {"anyOf": [{"type": one["type"][0]} | rest, {"type": "null"}]} | title
        else:
            made[key] = title | one if random.random() < 0.5 else one | title
    name = random.choice(("Person", "Order", "Record", "Item", "Event", "Answer"))
    return {"properties": made, "required": list(made), "title": name, "type": "object"}


def _nested(
    random: Random, properties: dict[str, Any], answer: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two or more of the fields inside an object of their own."""
    keys = list(properties)
    start = random.randint(0, len(keys) - 2)
    inside = keys[start : start + random.randint(2, 3)]
    group = random.choice([key for key in ("details", "person", "data", "info", "record") if key not in keys])
    made: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for key in keys:
        if key not in inside:
            made[key], told[key] = properties[key], answer[key]
        elif key == inside[0]:
            made[group] = schema_of({one: properties[one] for one in inside})
            told[group] = {one: answer[one] for one in inside}
    return schema_of(made), told


@dataclass(frozen=True, slots=True)
class Case:
    """One extraction: the conversation, the schema, the answer."""

    messages: tuple[Message, ...]
    schema: dict[str, Any]
    answer: dict[str, Any]


def case(random: Random, *, evaluation: bool = False, most: int = 6) -> Case:
    """One extraction, sometimes with one to three demonstrations before it."""
    shape = random.choices([one for one, _ in SHAPES], [weight for _, weight in SHAPES])[0]
    count = random.choices((1, 2, 3, 4, 5, 6), (8, 16, 28, 20, 15, 13) if evaluation else (6, 13, 23, 22, 19, 17))[0]
    count = min(count, most)
    document = shape(random, count, evaluation)
    properties, answer = _fields(random, document, most, silent=0.15 if evaluation else 0.36)
    schema = schema_of(properties)
    examples: tuple[tuple[str, Any], ...] = ()
    style = random.random()
    if style < 0.015:
        schema = _as_class(random, properties)
    elif style < 0.035 and len(properties) > 2:
        schema, answer = _nested(random, properties, answer)
    elif style < 0.13 or (shape is identity and style < 0.35):
        examples = _demonstrations(random, properties, answer, evaluation)
    prompt = extract.ask(document.text, schema, examples=examples)
    return Case(prompt.messages, schema, answer)


def _demonstrations(
    random: Random, properties: dict[str, Any], answer: dict[str, Any], evaluation: bool
) -> tuple[tuple[str, Any], ...]:
    """Other documents that say the same keys, as lines; some values begin as the real ones do, to be told apart."""
    facts = {key: fact for frame in FRAMES for fact in frame.values() for key in fact.keys.split()}
    found = []
    for _ in range(random.choices((1, 2, 3), (80, 14, 6))[0]):
        other: dict[str, Any] = {}
        for key, one in properties.items():
            fact = facts.get(key)
            known = fact is not None and one["type"] == fact.kind and "enum" not in one
            if not known and (one["type"] != "string" or "enum" in one):
                return ()
            make: Make = fact.make if fact is not None and known else values.first_name
            other[key] = _alike(random, answer[key], make(random, evaluation))
        lines = [f"{key}: {spoken(random, value)}" for key, value in other.items()]
        if random.random() < 0.5:
            random.shuffle(lines)
        found.append((random.choice(("\n", "\n", "\n", ", ")).join(lines), other))
    return tuple(found)


def _alike(random: Random, value: Any, other: Any) -> Any:
    """Sometimes give the other value the first word of the real one."""
    if random.random() < 0.4 and isinstance(value, str) and isinstance(other, str) and " " in value and " " in other:
        return f"{value.split(' ', 1)[0]} {other.split(' ', 1)[1]}"
    return other


_GIVEN = (
    "You are a helpful code assistant. Your task is to generate a valid JSON object based on the given information:\n\n{}\n\nJust generate the JSON object without explanations:",
    "You are a helpful code assistant. Your task is to generate a valid JSON object based on the given information:\n{}\nJust generate the JSON object without explanations:",
    "Generate a JSON object from this information:\n\n{}",
    "Your task is to generate a valid JSON object based on the given information:\n\n{}",
    "Turn this into JSON:\n\n{}",
    "Convert to JSON:\n{}",
)
_NAMED = (
    "Extract {keys} as JSON: {text}",
    "Extract {keys} from this text as JSON: {text}",
    "Extract {keys} as JSON from this text:\n\n{text}",
    "Give me {keys} as JSON.\n\n{text}",
    "Find {keys} in the text and answer in JSON.\n\nText: {text}",
)


def spoken_case(random: Random, *, evaluation: bool = False) -> Case:
    """Extraction asked for in chat, without a schema: keys are named in the sentence or are the labels of the lines."""
    if random.random() < 0.5:
        document = random.choice((identity, identity, key_lines))(random, random.randint(2, 4), evaluation)
        keys = [key for key in document.known if key in document.text]
        document.known = {key: document.known[key] for key in keys} or document.known
        question = random.choice(_GIVEN).format(document.text)
    else:
        document = random.choice((self_introduction, self_introduction, sentences, identity))(
            random, random.randint(1, 4), evaluation
        )
        keys = list(document.known)
        if random.random() < 0.3:
            random.shuffle(keys)
        named = keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])} and {keys[-1]}"
        question = random.choice(_NAMED).format(keys=named, text=document.text)
        document.known = {key: document.known[key] for key in keys}
    answer = {key: value for key, (_, value) in document.known.items()}
    properties = {key: property_of(random, fact, nullable=False) for key, (fact, _) in document.known.items()}
    return Case((Message("user", question),), schema_of(properties), answer)
