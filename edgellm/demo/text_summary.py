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
from edgellm.demo.text_extract import phrasing, phrasings


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
    options = phrasings(_FILLING[kind], evaluation)
    filling = random.sample(options, random.randint(max(0, 4 - len(said)), min(5, 10 - len(said))))
    for sentence in filling:
        said.insert(random.randint(1, len(said)), sentence)
    return " ".join(said)


def meeting(random: Random, evaluation: bool) -> Report:
    """Who met about what, what was decided, when they meet again."""
    team, leader = values.company(random, evaluation), values.full_name(random, evaluation)
    topic, when, then = random.choice(_TOPICS), _date(random), _date(random)
    amount = f"{random.randint(2, 99) * 1000} euros"
    said = [
        phrasing(
            random,
            "On {when} the board of {team} met to discuss the {topic}.|The {topic} was the subject of a meeting of the board of {team} on {when}.|The board of {team} came together on {when} to talk about the {topic}.|On {when} the {topic} was discussed by the board of {team}.|A meeting of the board of {team} about the {topic} took place on {when}.|When the board of {team} met on {when}, the {topic} was the first point.|*The {topic} was on the agenda when the board of {team} met on {when}.|+The {topic} brought the board of {team} together on {when}.|+On {when} the board members of {team} spoke about the {topic}.|+The board of {team} had one subject on {when}: the {topic}.|+The board of {team} spent {when} on the {topic}.|+On {when} everything at the board of {team} was about the {topic}.|+The board of {team} put the {topic} on the table at its meeting of {when}.|+The board of {team} was called together on {when} because of the {topic}.|+Members of the board of {team} argued about the {topic} on {when}.|+It was the {topic} that the board of {team} looked at on {when}.|+The first item for the board of {team} on {when} was the {topic}.|+The {topic} kept the board of {team} busy on {when}.|+The {topic} stood on the list of the board of {team} for the meeting of {when}.|+The {topic} was on the program, and so the board of {team} met on {when}.|+The {topic} came up at the session of the board of {team} on {when}.|+At the session of {when} the board of {team} took up the {topic}.",
            evaluation,
        ),
        phrasing(
            random,
            "{leader} led the meeting.|The meeting was led by {leader}.|{leader} was in the chair.|+{leader} chaired the session.|+The session was chaired by {leader}.|+At the head of the table sat {leader}.|+{leader} opened the meeting.",
            evaluation,
        ),
        phrasing(
            random,
            "It was decided to spend {amount}.|After a long talk the board agreed to spend {amount}.|The board approved {amount}.|In the end {amount} were approved.|+The board set aside {amount}.|+They said yes to {amount}.|+A sum of {amount} was approved.|+All voted for {amount}.|+The members released {amount}.",
            evaluation,
        ),
        phrasing(
            random,
            "The next meeting is on {then}.|They will meet again on {then}.|Another meeting was planned for {then}.|+They come together again on {then}.|+The next session is on {then}.|+The date of the next meeting is {then}.",
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
            "{article} {event} happened in the {place} of {owner} in {city} on {when}.|On {when} there was {low} {event} in the {place} of {owner} in {city}.|The {place} of {owner} in {city} had {low} {event} on {when}.|{owner} in {city} reported {low} {event} in its {place} on {when}.|There was trouble in the {place} of {owner} in {city} on {when}: {low} {event}.|People at {owner} in {city} had to deal with {low} {event} in the {place} on {when}.|*Staff of {owner} in {city} found {low} {event} in the {place} on {when}.|+On {when} {low} {event} hit the {place} of {owner} in {city}.|+{article} {event} stopped work in the {place} of {owner} in {city} on {when}.|+In {city}, {low} {event} damaged the {place} of {owner} on {when}.|+{owner} had {low} {event} in its {place} in {city} on {when}.|+The {place} that {owner} runs in {city} suffered {low} {event} on {when}.|+{when} was a bad day for {owner} in {city}: {low} {event} in the {place}.|+{owner} in {city} suffered {low} {event} in its {place} on {when}.|+{owner} in {city} lost a day on {when}: {low} {event} in the {place}.|+A worker of {owner} in {city} noticed {low} {event} in the {place} on {when}.|+News from {city}: on {when} the {place} of {owner} had {low} {event}.|+Guests of {owner} in {city} saw {low} {event} in the {place} on {when}.|+The people of {owner} in {city} met {low} {event} in the {place} on {when}.",
            evaluation,
        ),
        phrasing(
            random,
            "It all began with {cause}.|Behind it was {cause}.|The cause was {cause}.|It was caused by {cause}.|Experts say the reason was {cause}.|+To blame was {cause}.|+The trouble came from {cause}.|+Everything started with {cause}.|+They traced it to {cause}.",
            evaluation,
        ),
        phrasing(
            random,
            "The damage is about {cost}.|Repairs cost {cost}.|The loss is estimated at {cost}.|+It will cost {cost}.|+The bill for repairs is {cost}.|+They speak of {cost} of damage.|+The owner lost {cost}.",
            evaluation,
        ),
        phrasing(
            random,
            "{hero} noticed it first.|It was first noticed by {hero}.|{hero} raised the alarm.|+{hero} saw it first.|+The first to notice was {hero}.|+It was {hero} who called for help.|+{hero} called for help.",
            evaluation,
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
            "On {when} {city} had {kind}.|{city} was hit by {kind} on {when}.|There was {kind} in {city} on {when}.|On {when} {kind} reached {city}.|The people of {city} met {kind} on {when}.|On {when} {city} saw {kind}.|In {city} there was {kind} on {when}.|*People in {city} saw {kind} on {when}.|+On {when} there was {kind} over {city}.|+{city} woke up to {kind} on {when}.|+It was {when} when {kind} came to {city}.|+{city} got {kind} on {when}.|+On {when} the weather in {city} was bad: {kind}.|+Visitors to {city} met {kind} on {when}.|+{when} brought {kind} to {city}.|+The weather office reports {kind} in {city} on {when}.|+Nobody in {city} had expected {kind} on {when}.|+Drivers in {city} had to live with {kind} on {when}.",
            evaluation,
        ),
        phrasing(
            random,
            "Because of it {damage}.|As a result {damage}.|In the afternoon {damage}.|+For that reason {damage}.|+That is why {damage}.|+Before noon {damage}.",
            evaluation,
        ),
        phrasing(
            random,
            "The temperature was {degrees} degrees.|It was {degrees} degrees in the shade.|A temperature of {degrees} degrees was measured.|+The thermometer showed {degrees} degrees.|+At noon it was {degrees} degrees.|+{degrees} degrees were measured.",
            evaluation,
        ),
        phrasing(
            random,
            "Better weather is expected on {then}.|It should get better on {then}.|The forecast promises sun on {then}.|+The sun comes back on {then}.|+From {then} on it should be better.|+Experts promise better weather on {then}.",
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
            "In {month} {firm} sold {number} {thing}.|{firm} sold {number} {thing} in {month}.|{number} {thing} were sold by {firm} in {month}.|In {month} the firm {firm} sold {number} {thing}.|The number of {thing} that {firm} sold in {month} was {number}.|{firm} reports {number} sold {thing} for {month}.|*Sales of {thing} by {firm} reached {number} in {month}.|+{firm} found buyers for {number} {thing} in {month}.|+In {month}, customers bought {number} {thing} from {firm}.|+{month} was good for {firm}: {number} {thing} were sold.|+The sales of {firm} in {month}: {number} {thing}.|+{number} {thing} left the shops of {firm} in {month}.|+{firm} counted {number} sold {thing} in {month}.|+In {month} the shops of {firm} sold {number} {thing}.|+For {month} {firm} announces {number} sold {thing}.|+{firm} got rid of {number} {thing} in {month}.|+The figure for {month} is out: {firm} sold {number} {thing}.|+With {thing}, {firm} came to {number} pieces in {month}.|+As for {thing}, {firm} sold {number} of them in {month}.|+Orders for {thing} at {firm} came to {number} in {month}.",
            evaluation,
        ),
        phrasing(
            random,
            "That is {percent} percent {change} than a year ago.|Compared with last year this is {percent} percent {change}.|A year ago the figure was different: now it is {percent} percent {change}.|+It is {percent} percent {change} than the year before.|+The figure is {percent} percent {change} than last year.|+One year before it was another figure: {percent} percent {change} now.",
            evaluation,
        ),
        phrasing(
            random,
            "The best shop was the one in {best}.|Most were sold in {best}.|The shop in {best} sold the most.|+In {best} the shop sold most.|+The town with the best shop is {best}.|+Nobody sold more than the shop in {best}.|+The first place went to the shop in {best}.",
            evaluation,
        ),
        phrasing(
            random,
            "{boss} is responsible for sales.|The head of sales is {boss}.|Sales are led by {boss}.|+{boss} runs the sales.|+{boss} is head of sales.|+Sales are in the hands of {boss}.",
            evaluation,
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
            "The {work} for {client} is {percent} percent complete.|Work on the {work} for {client} has reached {percent} percent.|{percent} percent of the {work} for {client} is done.|The team has finished {percent} percent of the {work} for {client}.|For {client} a {work} is being made, and {percent} percent is finished.|{client} waits for its {work}: {percent} percent is ready.|*So far {percent} percent of the {work} for {client} is finished.|+At {percent} percent, the {work} for {client} makes progress.|+The {work} that {client} ordered is {percent} percent ready.|+{client} ordered a {work}, and {percent} percent of it is ready.|+By now the {work} for {client} stands at {percent} percent.|+Up to this week the team made {percent} percent of the {work} for {client}.|+Of the {work} for {client}, {percent} percent is ready.|+Up to now {client} has {percent} percent of its {work}.|+We have built {percent} percent of the {work} for {client}.|+Progress of the {work} for {client}: {percent} percent.|+As of today the {work} for {client} is at {percent} percent.|+This week {percent} percent of the {work} that {client} wants was reached.|+After many days {percent} percent of the {work} for {client} can be seen.",
            evaluation,
        ),
        phrasing(
            random,
            "It is {weeks} weeks late because {reason}.|There is a delay of {weeks} weeks because {reason}.|Because {reason}, the work is {weeks} weeks late.|+The team is {weeks} weeks behind because {reason}.|+The plan slipped by {weeks} weeks because {reason}.|+{weeks} weeks were lost because {reason}.",
            evaluation,
        ),
        phrasing(
            random,
            "The new end date is {end}.|It should be finished on {end}.|The team wants to finish on {end}.|+The work ends on {end}.|+The new date is {end}.|+All should be ready on {end}.|+The last day is {end}.",
            evaluation,
        ),
        phrasing(
            random,
            "The project leader is {leader}.|{leader} leads the project.|The project is led by {leader}.|+{leader} is in charge.|+In charge is {leader}.|+{leader} runs the project.|+Responsible is {leader}.",
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
            "{home} beat {away} {score} in {sport} on {when}.|On {when} {home} won the {sport} match against {away} {score}.|In {sport}, {away} lost {score} against {home} on {when}.|{home} won {score} against {away} in {sport} on {when}.|On {when} there was {sport} in {home}: {away} lost {score}.|A {sport} match between {home} and {away} ended {score} for {home} on {when}.|*The {sport} match on {when} ended {score} for {home} against {away}.|+{away} was no match for {home} in {sport} on {when}: {score}.|+On {when} {home} played {sport} against {away} and won {score}.|+{home} was stronger than {away} in {sport} on {when}, {score}.|+{home} defeated {away} {score} in {sport} on {when}.|+The result on {when} in {sport}: {home} beat {away} {score}.|+On {when} the {sport} team of {home} won {score} against {away}.|+{away} went home with a defeat on {when}: {home} won the {sport} game {score}.|+The {sport} game of {when} was won {score} by {home}, and {away} lost.|+After the {sport} game on {when} the fans of {home} were happy: {score} against {away}.|+Against {away} {home} won {score} in {sport} on {when}.|+There was a {score} win for {home} over {away} in {sport} on {when}.|+The {sport} evening of {when} brought a {score} win for {home}, and {away} went home sad.|+When {home} met {away} in {sport} on {when}, it won {score}.",
            evaluation,
        ),
        phrasing(
            random,
            "{star} was the best player.|The best player was {star}.|{star} was named player of the day.|+{star} played best.|+Nobody played better than {star}.|+The star was {star}.|+The prize for the best player went to {star}.",
            evaluation,
        ),
        phrasing(
            random,
            "{crowd} people watched the match.|The match was seen by {crowd} people.|{crowd} fans came to the stadium.|+{crowd} people were there.|+The crowd counted {crowd} people.|+There were {crowd} people in the stadium.",
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
            "In {month} {who} travelled to {city} for {days} days.|{who} spent {days} days in {city} in {month}.|{who} was in {city} for {days} days in {month}.|The trip of {who} to {city} in {month} lasted {days} days.|For {days} days in {month} {who} visited {city}.|{who} went to {city} in {month} and stayed {days} days.|*A trip of {days} days took {who} to {city} in {month}.|+In {month} {who} made a trip to {city} that lasted {days} days.|+{who} saw {city} in {month} and had {days} days for it.|+{days} days in {city}: that was the trip of {who} in {month}.|+{who} took a holiday of {days} days in {city} in {month}.|+{city} was the goal of {who} in {month}, for {days} days.|+In {month} {city} had a visitor for {days} days: {who}.|+During {days} days in {month} {who} got to know {city}.|+The holiday of {who} in {month} lasted {days} days and led to {city}.|+{who} flew to {city} in {month} for {days} days.|+A visit to {city} kept {who} away for {days} days in {month}.|+{month} brought {who} to {city} for {days} days.|+The {days} days that {who} spent in {city} in {month} went by fast.|+A holiday of {days} days led {who} to {city} in {month}.",
            evaluation,
        ),
        phrasing(
            random,
            "{friend} came along.|{friend} joined the trip.|The trip was planned together with {friend}.|+{friend} was there too.|+With them was {friend}.|+{friend} went along.|+They travelled with {friend}.",
            evaluation,
        ),
        phrasing(
            random,
            "The best part was {sight}.|What they liked most was {sight}.|Most of all they enjoyed {sight}.|+The high point was {sight}.|+Nothing was better than {sight}.|+Their favorite was {sight}.|+They will not forget {sight}.",
            evaluation,
        ),
        phrasing(
            random,
            "The whole trip cost {cost}.|They spent {cost} in all.|The price was {cost}.|+All together it cost {cost}.|+The bill came to {cost}.|+They paid {cost} for everything.",
            evaluation,
        ),
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
