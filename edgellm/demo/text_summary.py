"""Reports of four to ten sentences made from a few facts, and their summaries in one or two sentences.

The summary is a function of the facts alone: who, what, when, how much. Everything else in a report is filling.
"""

# ruff: noqa: E501, SIM905
# A set of phrasings stays on one line, a list of words is one string.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from edgellm.demo import values
from edgellm.demo.text_extract import phrasing


@dataclass(frozen=True, slots=True)
class Report:
    """A text, its two summary sentences, and the facts that must be kept."""

    text: str
    first: str
    second: str
    facts: tuple[str, ...]  # those of the first sentence
    more: tuple[str, ...]  # those of the second

    def summary(self, sentences: int) -> str:
        """The summary in one or two sentences."""
        return self.first if sentences == 1 else f"{self.first} {self.second}"


_FILLING = {
    "meeting": "The room was full.|Coffee was served at the start.|The discussion was friendly.|Everybody had time to speak.|"
    "Some questions were left for later.|The notes were sent to everyone.|The minutes were taken by an assistant.|"
    "There were no objections.|The projector did not work at first.|Lunch followed in the canteen.|*A few people joined by phone.",
    "incident": "The staff reacted quickly.|Customers were informed by mail.|The building was checked afterwards.|The police were not needed.|"
    "A report was written the same day.|Neighbors watched from the street.|The alarm worked as planned.|Some people were worried.|"
    "A second check found nothing new.|The manager thanked the team.|*The insurance has been told.",
    "weather": "People stayed at home.|Many trains were late.|Schools stayed open.|Farmers were pleased.|The roads were difficult in places.|"
    "Experts had expected it.|The sea was rough.|Gardens were empty.|Shops closed early.|The sky was grey all day.|*Boats stayed in the harbor.",
    "sales": "The shops were busy.|New customers came from abroad.|The web page was visited more often.|Some products were out of stock.|"
    "The advertising was changed in spring.|Prices stayed the same.|The team was proud.|Returns were rare.|The market is difficult.|"
    "Costs were kept under control.|*Two shops were painted.",
    "project": "The team meets every week.|The documents are up to date.|Two tests failed and were repaired.|The customer is satisfied so far.|"
    "The office was quiet.|A new tool was tried.|Some tasks took longer than expected.|The plan was checked twice.|Nobody was ill.|"
    "The next report follows soon.|*The risks are listed elsewhere.",
    "sports": "The stadium was full.|The fans sang all evening.|The first half was slow.|The referee showed two yellow cards.|The grass was wet.|"
    "Both teams played hard.|The coach looked calm.|Television showed the match live.|It rained a little.|The goalkeeper had a good day.|"
    "*The second half was better.",
    "travel": "The hotel was simple but clean.|The food was excellent.|The group walked a lot.|The weather was mild.|Many photos were taken.|"
    "The guide knew many stories.|The train was on time.|Some shops were closed.|The evenings were quiet.|Everybody slept well.|"
    "*The luggage arrived later.",
}
_TOPICS = tuple(
    "budget|new office|website|holiday plan|training plan|parking rules|hiring plan|product launch|safety rules|travel costs|"
    "new logo|opening hours|customer survey|annual report|heating system|canteen menu".split("|")
)
_CAUSES = tuple(
    "a broken pipe|a loose cable|a software error|a power cut|a forgotten candle|a storm|a faulty heater|a wrong setting|"
    "an old battery|a blocked drain|a human error|a burst tyre".split("|")
)
_EVENTS = tuple("fire|flood|power failure|data loss|gas leak|server failure|traffic accident|water leak".split("|"))
_PLACES = tuple(
    "warehouse|office|kitchen|factory|library|garage|server room|workshop|laboratory|archive|shop".split("|")
)
_WEATHER = tuple("heavy rain|strong wind|thick fog|heavy snow|a heat wave|a thunderstorm|hail|hard frost".split("|"))
_DAMAGE = tuple(
    "trees fell on the roads|the bridge was closed|the airport was closed|cellars were flooded|the power failed|"
    "the market was cancelled|two roofs were damaged|the school bus did not run".split("|")
)
_WORK = tuple(
    "mobile app|bridge|new website|data center|school building|payment system|research project|online shop|tram line".split(
        "|"
    )
)
_REASONS = tuple(
    "parts are missing|the tests take longer|a supplier is late|the plans were changed|two engineers are ill|the software is not ready|"
    "the permit is missing|the budget was cut".split("|")
)
_PRODUCTS = tuple("bicycles|phones|shoes|books|lamps|laptops|coats|toys|chairs|watches|printers|tents".split("|"))
_SPORTS = tuple("football|basketball|handball|rugby|hockey|volleyball".split("|"))
_SIGHTS = tuple(
    "the old castle|the museum|the harbor|the cathedral|the botanical garden|the market|the beach|the old town|the zoo".split(
        "|"
    )
)


def _date(random: Random) -> str:
    if random.random() < 0.5:
        return random.choice(values.DAYS)
    return f"{random.randint(1, 28)} {random.choice(values.MONTHS)}"


def _place(random: Random, evaluation: bool) -> str:
    return values.city(random, evaluation)


def _compose(random: Random, kind: str, forms: list[str], facts: dict[str, object], evaluation: bool) -> str:
    """Put filling between the sentences that carry facts, up to four to ten in all."""
    said = [form.format(**facts) for form in forms]
    options = [one for one in _FILLING[kind].split("|") if evaluation or not one.startswith("*")]
    filling = random.sample(options, random.randint(max(0, 4 - len(said)), min(5, 10 - len(said))))
    for sentence in filling:
        said.insert(random.randint(1, len(said)), sentence.removeprefix("*"))
    return " ".join(said)


def meeting(random: Random, evaluation: bool) -> Report:
    """Who met about what, what was decided, when they meet again."""
    team, leader = values.company(random, evaluation), values.full_name(random, evaluation)
    topic, when, then = random.choice(_TOPICS), _date(random), _date(random)
    amount = f"{random.randint(2, 99) * 1000} euros"
    said = [
        phrasing(
            random,
            "On {when} the board of {team} met to discuss the {topic}.|The {topic} was the subject of a meeting of the board of {team} on {when}.|The board of {team} came together on {when} to talk about the {topic}.|On {when} the {topic} was discussed by the board of {team}.|A meeting of the board of {team} about the {topic} took place on {when}.|When the board of {team} met on {when}, the {topic} was the first point.|*The {topic} was on the agenda when the board of {team} met on {when}.",
            evaluation,
        ),
        phrasing(
            random, "{leader} led the meeting.|The meeting was led by {leader}.|{leader} was in the chair.", evaluation
        ),
        phrasing(
            random,
            "It was decided to spend {amount}.|After a long talk the board agreed to spend {amount}.|The board approved {amount}.|In the end {amount} were approved.",
            evaluation,
        ),
        phrasing(
            random,
            "The next meeting is on {then}.|They will meet again on {then}.|Another meeting was planned for {then}.",
            evaluation,
        ),
    ]
    text = _compose(random, "meeting", said, locals(), evaluation)
    return Report(
        text,
        f"On {when} the board of {team} met about the {topic} and approved {amount}.",
        f"{leader} led the meeting, and the next one is on {then}.",
        (when, team, topic, amount),
        (leader, then),
    )


def incident(random: Random, evaluation: bool) -> Report:
    """What happened where, why, what it cost, who repaired it."""
    event, place, cause = random.choice(_EVENTS), random.choice(_PLACES), random.choice(_CAUSES)
    owner, when, city = values.company(random, evaluation), _date(random), _place(random, evaluation)
    cost, hero = f"{random.randint(1, 90) * 500} euros", values.full_name(random, evaluation)
    article = "An" if event[0] in "aeiou" else "A"
    low = article.lower()
    said = [
        phrasing(
            random,
            "{article} {event} happened in the {place} of {owner} in {city} on {when}.|On {when} there was {low} {event} in the {place} of {owner} in {city}.|The {place} of {owner} in {city} had {low} {event} on {when}.|{owner} in {city} reported {low} {event} in its {place} on {when}.|There was trouble in the {place} of {owner} in {city} on {when}: {low} {event}.|People at {owner} in {city} had to deal with {low} {event} in the {place} on {when}.|*Staff of {owner} in {city} found {low} {event} in the {place} on {when}.",
            evaluation,
        ),
        phrasing(
            random,
            "It all began with {cause}.|Behind it was {cause}.|The cause was {cause}.|It was caused by {cause}.|Experts say the reason was {cause}.",
            evaluation,
        ),
        phrasing(
            random, "The damage is about {cost}.|Repairs cost {cost}.|The loss is estimated at {cost}.", evaluation
        ),
        phrasing(
            random, "{hero} noticed it first.|It was first noticed by {hero}.|{hero} raised the alarm.", evaluation
        ),
    ]
    text = _compose(random, "incident", said, locals(), evaluation)
    return Report(
        text,
        f"On {when} {cause} caused {low} {event} in the {place} of {owner} in {city}.",
        f"{hero} noticed it, and the damage is {cost}.",
        (when, cause, event, place, owner, city),
        (hero, cost),
    )


def weather(random: Random, evaluation: bool) -> Report:
    """What weather where and when, what it did, what comes next."""
    city, kind, when, damage = (
        _place(random, evaluation),
        random.choice(_WEATHER),
        _date(random),
        random.choice(_DAMAGE),
    )
    least, most = (26, 41) if kind == "a heat wave" else (-18, 0) if kind in ("heavy snow", "hard frost") else (1, 25)
    degrees, then = random.randint(least, most), _date(random)
    said = [
        phrasing(
            random,
            "On {when} {city} had {kind}.|{city} was hit by {kind} on {when}.|There was {kind} in {city} on {when}.|On {when} {kind} reached {city}.|The people of {city} met {kind} on {when}.|On {when} {city} saw {kind}.|In {city} there was {kind} on {when}.|*People in {city} saw {kind} on {when}.",
            evaluation,
        ),
        phrasing(random, "Because of it {damage}.|As a result {damage}.|In the afternoon {damage}.", evaluation),
        phrasing(
            random,
            "The temperature was {degrees} degrees.|It was {degrees} degrees in the shade.|A temperature of {degrees} degrees was measured.",
            evaluation,
        ),
        phrasing(
            random,
            "Better weather is expected on {then}.|It should get better on {then}.|The forecast promises sun on {then}.",
            evaluation,
        ),
    ]
    text = _compose(random, "weather", said, locals(), evaluation)
    return Report(
        text,
        f"On {when} {city} had {kind} at {degrees} degrees.",
        f"As a result {damage}, and better weather is expected on {then}.",
        (when, city, kind, str(degrees)),
        (damage, then),
    )


def sales(random: Random, evaluation: bool) -> Report:
    """Who sold how many of what, up or down, who is responsible."""
    firm, thing, number = values.company(random, evaluation), random.choice(_PRODUCTS), random.randint(11, 990) * 10
    month, percent, rose = random.choice(values.MONTHS), random.randint(2, 60), random.random() < 0.5
    boss, best = values.full_name(random, evaluation), _place(random, evaluation)
    change = "more" if rose else "less"
    said = [
        phrasing(
            random,
            "In {month} {firm} sold {number} {thing}.|{firm} sold {number} {thing} in {month}.|{number} {thing} were sold by {firm} in {month}.|In {month} the firm {firm} sold {number} {thing}.|The number of {thing} that {firm} sold in {month} was {number}.|{firm} reports {number} sold {thing} for {month}.|*Sales of {thing} by {firm} reached {number} in {month}.",
            evaluation,
        ),
        phrasing(
            random,
            "That is {percent} percent {change} than a year ago.|Compared with last year this is {percent} percent {change}.|A year ago the figure was different: now it is {percent} percent {change}.",
            evaluation,
        ),
        phrasing(
            random,
            "The best shop was the one in {best}.|Most were sold in {best}.|The shop in {best} sold the most.",
            evaluation,
        ),
        phrasing(
            random, "{boss} is responsible for sales.|The head of sales is {boss}.|Sales are led by {boss}.", evaluation
        ),
    ]
    text = _compose(random, "sales", said, locals(), evaluation)
    return Report(
        text,
        f"{firm} sold {number} {thing} in {month}, {percent} percent {change} than a year ago.",
        f"The best shop was in {best}, and {boss} leads sales.",
        (firm, str(number), thing, month, f"{percent} percent {change}"),
        (best, boss),
    )


def project(random: Random, evaluation: bool) -> Report:
    """What is being built for whom, how far it is, why it is late, when it ends."""
    work, client, percent = random.choice(_WORK), values.company(random, evaluation), random.randint(5, 95)
    weeks, reason, end = random.randint(2, 20), random.choice(_REASONS), _date(random)
    leader = values.full_name(random, evaluation)
    said = [
        phrasing(
            random,
            "The {work} for {client} is {percent} percent complete.|Work on the {work} for {client} has reached {percent} percent.|{percent} percent of the {work} for {client} is done.|The team has finished {percent} percent of the {work} for {client}.|For {client} a {work} is being made, and {percent} percent is finished.|{client} waits for its {work}: {percent} percent is ready.|*So far {percent} percent of the {work} for {client} is finished.",
            evaluation,
        ),
        phrasing(
            random,
            "It is {weeks} weeks late because {reason}.|There is a delay of {weeks} weeks because {reason}.|Because {reason}, the work is {weeks} weeks late.",
            evaluation,
        ),
        phrasing(
            random,
            "The new end date is {end}.|It should be finished on {end}.|The team wants to finish on {end}.",
            evaluation,
        ),
        phrasing(
            random,
            "The project leader is {leader}.|{leader} leads the project.|The project is led by {leader}.",
            evaluation,
        ),
    ]
    text = _compose(random, "project", said, locals(), evaluation)
    return Report(
        text,
        f"The {work} for {client} is {percent} percent complete and {weeks} weeks late because {reason}.",
        f"{leader} leads the project, which should end on {end}.",
        (work, client, f"{percent} percent", f"{weeks} weeks", reason),
        (leader, end),
    )


def sports(random: Random, evaluation: bool) -> Report:
    """Who beat whom, by how much, who scored, who plays next."""
    home, away = values.city(random, evaluation), values.city(random, evaluation)
    while away == home:
        away = values.city(random, evaluation)
    low = random.randint(0, 4)
    score, sport, when = f"{low + random.randint(1, 4)} to {low}", random.choice(_SPORTS), _date(random)
    star, crowd = values.full_name(random, evaluation), random.randint(3, 90) * 500
    said = [
        phrasing(
            random,
            "{home} beat {away} {score} in {sport} on {when}.|On {when} {home} won the {sport} match against {away} {score}.|In {sport}, {away} lost {score} against {home} on {when}.|{home} won {score} against {away} in {sport} on {when}.|On {when} there was {sport} in {home}: {away} lost {score}.|A {sport} match between {home} and {away} ended {score} for {home} on {when}.|*The {sport} match on {when} ended {score} for {home} against {away}.",
            evaluation,
        ),
        phrasing(
            random,
            "{star} was the best player.|The best player was {star}.|{star} was named player of the day.",
            evaluation,
        ),
        phrasing(
            random,
            "{crowd} people watched the match.|The match was seen by {crowd} people.|{crowd} fans came to the stadium.",
            evaluation,
        ),
    ]
    text = _compose(random, "sports", said, locals(), evaluation)
    return Report(
        text,
        f"{home} beat {away} {score} in {sport} on {when}.",
        f"{star} was the best player, and {crowd} people watched.",
        (home, away, score, sport, when),
        (star, str(crowd)),
    )


def travel(random: Random, evaluation: bool) -> Report:
    """Who went where for how long, what they saw, what it cost."""
    who, city, days = values.full_name(random, evaluation), values.city(random, evaluation), random.randint(2, 21)
    month, sight, cost = random.choice(values.MONTHS), random.choice(_SIGHTS), f"{random.randint(2, 60) * 50} euros"
    friend = values.first_name(random, evaluation)
    said = [
        phrasing(
            random,
            "In {month} {who} travelled to {city} for {days} days.|{who} spent {days} days in {city} in {month}.|{who} was in {city} for {days} days in {month}.|The trip of {who} to {city} in {month} lasted {days} days.|For {days} days in {month} {who} visited {city}.|{who} went to {city} in {month} and stayed {days} days.|*A trip of {days} days took {who} to {city} in {month}.",
            evaluation,
        ),
        phrasing(
            random,
            "{friend} came along.|{friend} joined the trip.|The trip was planned together with {friend}.",
            evaluation,
        ),
        phrasing(
            random,
            "The best part was {sight}.|What they liked most was {sight}.|Most of all they enjoyed {sight}.",
            evaluation,
        ),
        phrasing(random, "The whole trip cost {cost}.|They spent {cost} in all.|The price was {cost}.", evaluation),
    ]
    text = _compose(random, "travel", said, locals(), evaluation)
    return Report(
        text,
        f"In {month} {who} spent {days} days in {city} with {friend}.",
        f"The best part was {sight}, and the trip cost {cost}.",
        (month, who, f"{days} days", city, friend),
        (sight, cost),
    )


REPORTS: tuple[Callable[[Random, bool], Report], ...] = (meeting, incident, weather, sales, project, sports, travel)


def report(random: Random, *, evaluation: bool = False) -> Report:
    """A report of any kind."""
    return random.choice(REPORTS)(random, evaluation)
