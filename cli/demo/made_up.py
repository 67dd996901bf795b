"""Preference pairs put together from templates, for a machine that has no real ones. Whatever they show means nothing.

About 430 questions of daily life; the preferred answer gives steps and a caution, the other one is curt, vague,
careless or rambling. Deterministic: the same file everywhere.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

SEED = 20

TASKS = """
bake a simple loaf of bread:
  mix flour, water, salt and yeast; let the dough rise; bake until it sounds hollow; mind the hot tin
repot a house plant:
  water it the day before; loosen the roots; fill in fresh soil; choose a pot with a hole
learn ten words of a new language a day:
  write them on cards; say them aloud; repeat them the next morning; rest one day a week
fix a dripping tap:
  turn the water off; open the handle; change the worn washer; put a towel in the sink
plan a cheap weekend trip:
  set a limit; compare trains and buses; book a room with a kitchen; keep a reserve
write a polite complaint:
  say what you bought; say what went wrong; say what you would like; stay with the facts
start running:
  walk five minutes; run one minute and walk two; add a little each week; ask a doctor if anything hurts
clean a dusty computer:
  switch it off and unplug it; open the case; blow the dust out; hold the fans still
prepare for a job interview:
  read about the firm; practise three short stories; write down two questions; arrive early
sleep better:
  keep the same hours; put the phone away; keep the room cool; see a doctor if it goes on for weeks
teach a dog to sit:
  hold a treat above its nose; wait until it sits; praise it at once; keep it short
save money on groceries:
  plan the meals; write a list; buy what is in season; do not shop hungry
grow tomatoes on a balcony:
  take a deep pot; tie the stem to a stick; water in the morning; keep the leaves dry
remove a coffee stain:
  dab it with cold water; add a drop of soap; rinse and let it dry; test a hidden spot first
write a short speech:
  pick one message; open with a story; end with a thank you; read it aloud twice
organise a small party:
  choose a day; ask each guest to bring one dish; prepare the music; tell the neighbours
read more books:
  keep one in your bag; read ten pages before bed; drop the ones you do not like; do not count too hard
change a bicycle tyre:
  take the wheel out; lever the tyre off; put the new tube in; check the rim for thorns
cook rice without burning it:
  rinse it; take two parts of water; let it stand with the lid on; turn the heat low
make a household budget:
  list what comes in; list what goes out; set one goal; look at it once a month
move to another flat:
  sort things out early; label every box; pack a bag for the first night; lift with your knees
get over stage fright:
  breathe out slowly; look at one friendly face; begin with a line you know; allow a pause
choose a second-hand bicycle:
  check the frame for cracks; spin the wheels; try the brakes; ask for the receipt
keep a diary:
  fix a time; write three sentences; be honest; put it in a safe place
learn to swim as an adult:
  find a class; practise floating; breathe out under water; never go alone at first
paint a room:
  cover the floor; do the edges first; roll from top to bottom; open a window
write a thank-you letter:
  name the gift; say how you use it; wish them well; post it within a week
store winter clothes:
  wash them; fold them loosely; close the box well; add lavender against moths
make friends in a new town:
  join a club; greet the neighbours; invite someone for tea; give it time
study for an exam:
  split the matter in parts; test yourself; sleep well before it; take breaks
sharpen a kitchen knife:
  wet the stone; keep a steady angle; finish on the fine side; keep your fingers away from the edge
take better photos:
  find soft light; step closer; keep the horizon level; ask before you photograph people
reduce plastic waste:
  carry a cloth bag; refill bottles; buy loose fruit; start with one habit
set up a home office:
  put the desk near a window; raise the screen; choose a firm chair; stand up each hour
look after an old wooden table:
  wipe it dry; rub in oil; wait a night; try it underneath first
train for a long hike:
  walk every other day; carry a light pack; wear the boots in; tell someone your route
"""
"""What people ask about: a task, then three steps and a caution."""

QUESTIONS = (
    "How do I {task}?",
    "I have never tried to {task}. Where do I start?",
    "What is the best way to {task}?",
    "Can you help me to {task}? I have one evening.",
    "My sister wants to {task} and asked me. What should I tell her?",
    "Explain to a beginner how to {task}.",
    "I failed to {task} last year. What can I do better?",
    "Is there an easy way to {task} with little money?",
    "Give me a short plan to {task}, please.",
    "What do most people get wrong when they {task}?",
    "I am nervous about this: how does one {task}?",
    "We have an hour and no tools. Can we still {task}?",
)

OPENINGS = ("Gladly.", "Good question.", "Sure, here is a way that works.", "It is easier than it looks.", "Of course.")
ENDINGS = ("Tell me how it goes.", "Shall I say more about one of the steps?", "Good luck!", "You can do this.")
CARELESS = (
    "Just do it, nothing can go wrong.",
    "Who cares? Ask somebody else.",
    "I do not know, look it up.",
    "Why would anybody want to {task}? That is a waste of time.",
    "You simply {task}. Everybody knows how. There is nothing to explain and nothing to be careful about.",
    "Well, there are many ways, and it depends, and some say this and others say that, so it is hard to say anything "
    "about how to {task}, but in the end it will be as it will be, one way or another, as with most things in life.",
    "Forget the details. {second}, done.",
)


def pairs() -> Iterator[dict[str, str]]:
    """Yield the pairs as `prompt` (a transcript that ends in `Assistant:`), `chosen` and `rejected`."""
    draw = random.Random(SEED)  # noqa: S311 - variety, not secrets
    lines = TASKS.strip().splitlines()
    for heading, content in zip(lines[::2], lines[1::2], strict=True):
        task = heading.rstrip(":")
        first, second, third, caution = content.strip().split("; ")
        for question in QUESTIONS:
            steps = f"First, {first}. Then {second}. After that, {third}. And {caution}."
            if draw.random() < 0.4:
                numbered = [f"{n}. {step.capitalize()}." for n, step in enumerate((first, second, third), 1)]
                steps = "\n".join([*numbered, f"Also: {caution}."])
            chosen = f"{draw.choice(OPENINGS)} {steps}"
            if draw.random() < 0.5:
                chosen += f" {draw.choice(ENDINGS)}"
            rejected = draw.choice(CARELESS).format(task=task, second=second.capitalize())
            prompt = f"\n\nHuman: {question.format(task=task)}\n\nAssistant:"
            yield {"prompt": prompt, "chosen": f" {chosen}", "rejected": f" {rejected}"}


def write(path: Path) -> int:
    """Write the pairs to *path* as JSON lines and return how many they are."""
    lines = [json.dumps({**pair, "source": "made up"}) for pair in pairs()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)
