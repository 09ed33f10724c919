"""The word lists of the demo model: every word with its syllable count, grouped by class (pure data, no torch)."""

from __future__ import annotations

from typing import Final

Lists = dict[str, dict[int, str]]

COUNT_NOUNS: Final[Lists] = {
    "animal": {
        1: "bat bear bee bird calf cat crab crane crow deer dog dove duck fawn finch fish fox frog goat goose gull "
        "hare hawk hen horse lamb lark moth mouse owl seal snail snake swan toad trout whale wolf wren",
        2: "badger beaver beetle blackbird bullfrog cricket donkey falcon gecko goldfish hedgehog heron kitten lizard "
        "magpie otter panda parrot penguin pigeon pony puppy rabbit raven robin rooster salmon seagull sparrow spider "
        "squirrel swallow tiger turtle",
        3: "buffalo butterfly chickadee dragonfly elephant firefly hummingbird kangaroo kingfisher ladybug "
        "mockingbird nightingale octopus sandpiper",
        4: "alligator caterpillar salamander",
    },
    "plant": {
        1: "birch branch bud bush fern leaf oak palm pear pine plum reed root rose seed thorn tree vine",
        2: "acorn almond apple berry blossom cedar cherry daisy flower lemon lilac lily lotus maple melon mushroom "
        "orchid petal pinecone poppy pumpkin thistle tulip walnut willow",
        3: "blueberry buttercup daffodil marigold mulberry strawberry sunflower tangerine violet wildflower",
        4: "chrysanthemum dandelion pomegranate watermelon",
    },
    "sky": {
        1: "breeze cloud gust moon star storm sun wave wind",
        2: "comet moonbeam planet puddle rainbow raindrop shadow snowflake sunbeam sunset teardrop",
        3: "avalanche hurricane icicle meteor thunderstorm",
        4: "constellation",
    },
    "place": {
        1: "barn bay beach bridge brook cave cliff coast creek dune farm field gate hill inn lake lane marsh park path "
        "peak pier pond pool porch road roof sea shore street stream town trail yard",
        2: "alley attic cabin canyon castle cellar cottage courtyard desert doorway forest garden glacier harbor "
        "hilltop island kitchen lagoon market meadow mountain ocean orchard prairie river rooftop station temple "
        "valley village vineyard",
        3: "balcony bakery cathedral library riverbank theater waterfall",
        4: "monastery",
    },
    "object": {
        1: "bell bench boat book bowl box broom brush chair clock coat cup door drum flute glove hat kite lamp map "
        "mask pen plate pot quilt ring rope sail ship shoe song spoon stone sword thread train wheel",
        2: "anchor basket blanket bottle bucket button candle compass cradle curtain engine feather fiddle hammer "
        "kettle ladder lantern lighthouse letter marble mirror necklace needle notebook paddle pebble pencil pillow "
        "pocket postcard ribbon rowboat sandal suitcase teacup teapot ticket trumpet wagon whistle window",
        3: "bicycle carousel envelope melody newspaper photograph piano telephone telescope typewriter umbrella violin",
        4: "accordion harmonica kaleidoscope",
        5: "refrigerator",
    },
    "machine": {
        1: "chip disk screen",
        2: "cable circuit cursor keyboard laptop model modem network printer robot server token",
        3: "computer microchip processor satellite terminal",
        4: "algorithm calculator",
    },
    "person": {
        1: "aunt child clown cook friend guest king monk nurse priest queen thief",
        2: "artist baker barber brother dancer doctor drummer farmer father mother neighbor nomad painter pilgrim poet "
        "potter sailor shepherd singer sister stranger student tailor teacher weaver",
        3: "astronaut carpenter fisherman gardener grandfather grandmother lamplighter musician passenger wanderer",
        4: "librarian photographer",
    },
}
MASS_NOUNS: Final[Lists] = {
    "plantm": {1: "grass moss wheat", 2: "bamboo barley clover ivy", 3: "lavender"},
    "skym": {
        1: "dew dust fog frost hail ice light mist rain smoke snow",
        2: "daylight drizzle moonlight rainfall snowfall starlight sunlight thunder",
    },
    "food": {1: "bread milk rice salt sand soup tea wine", 2: "coffee honey sugar"},
    "abstract": {
        1: "grief hope joy peace time truth youth",
        2: "beauty childhood darkness freedom friendship hunger kindness laughter longing music patience silence "
        "sorrow stillness",
        3: "emptiness happiness harmony loneliness memory solitude",
        5: "curiosity electricity imagination",
    },
    "season": {1: "spring", 2: "autumn summer winter"},
    "hour": {1: "dawn dusk night noon", 2: "evening midnight morning twilight", 3: "afternoon"},
}
_WATER: Final = "bay brook creek lake marsh pond pool sea stream lagoon harbor ocean river waterfall"
_ROOM: Final = (
    "barn cave field inn marsh park town yard attic cabin canyon castle cellar cottage courtyard desert forest garden "
    "kitchen market meadow orchard prairie station temple valley village vineyard bakery cathedral library theater "
    "monastery"
)
ADJECTIVES: Final[dict[int, str]] = {
    1: "bare black blue bold brave bright brown calm clear cold cool crisp damp dark deep dim faint fresh frail gold "
    "grand gray green hushed kind late lone long lost low mild new old pale plain poor proud pure quick rare red rich "
    "ripe rough round sad sharp short shy slow small smooth soft stark steep strange strong sweet swift tall thin vast "
    "warm weak white wide wild wise worn young",
    2: "ancient amber barren bitter broken careful clever cloudy crimson crooked distant dreamy dusty empty endless "
    "faithful foggy foolish fragile frosty frozen gentle glassy golden graceful happy hidden hollow holy honest humble "
    "hungry icy idle lazy lonely lucky mellow mighty misty modest mossy muddy narrow nimble noble patient peaceful "
    "playful purple quiet rainy restless rusty sacred salty scarlet secret shady shallow silent silver simple sleepy "
    "slender snowy solemn starry steady stormy stubborn sturdy sunlit tangled tender tiny velvet weary windy wooden "
    "yellow",
    3: "abandoned beautiful curious delicate electric enormous eternal familiar forgotten innocent luminous magical "
    "musical radiant unbroken uncertain unhurried",
    4: "invisible melancholy mysterious ordinary solitary",
}
VERBS: Final[Lists] = {
    "general": {1: "wait rest stay dream", 2: "appear linger remain return tremble vanish", 3: "disappear"},
    "living": {
        1: "run climb crawl leap roam swim nap doze stare pause yawn dance sleep",
        2: "hurry listen slumber travel wander",
    },
    "airy": {
        1: "drift float fall rise sink swirl spin glide soar fly",
        2: "flutter hover scatter settle tumble",
    },
    "light": {1: "glow shine gleam fade blink burn", 2: "flicker glimmer glisten shimmer sparkle twinkle"},
    "sound": {1: "sing hum call sigh speak", 2: "answer echo murmur mutter rattle whisper"},
    "grow": {1: "bloom grow sway bend lean bow", 2: "ripen wither"},
    "mind": {1: "think pray smile weep laugh", 2: "ponder wonder worry", 4: "philosophize"},
    "trans": {
        1: "hold find keep watch greet touch chase lift catch paint count carve mend guard cross bless seek praise",
        2: "admire borrow carry cover embrace follow forget polish visit welcome",
        3: "discover imagine remember",
    },
}
THEMES: Final[dict[str, tuple[str, ...]]] = {
    "animal": ("general", "living", "sound", "airy"),
    "person": ("general", "living", "sound", "mind"),
    "plant": ("general", "airy", "grow"),
    "sky": ("general", "airy", "light"),
    "place": ("general", "light"),
    "object": ("general", "light", "sound"),
    "machine": ("general", "light", "sound"),
    "abstract": ("general", "grow"),
}
ADVERBS: Final[dict[int, str]] = {
    1: "now here once",
    2: "again alone always below gently nearby slowly softly tonight unseen upstream",
    3: "forever patiently quietly silently suddenly tenderly together",
}
_FUNCTION: Final[dict[int, str]] = {
    1: "a an the of in on by at to and or but no not if as is are was its my your our his her their this that "
    "these those who what where when why how does do did can may let will with through from like than then so "
    "yet still I you we it he she they me us all each some few more too there come go be such just says say "
    "knows know thank thanks please far first last night out up down off near for rhymes verse rhyme lines "
    "line page next feels shall good take hard try text sit have well read name world meet whole sums most "
    "step room sum dreamed left gave comes while full would could were had has been one said give dear soon "
    "wait stay rest counts home less seek words word count code am mean learn ask asks speak speaks write drop "
    "times door oh O",
    2: "above across after along among behind below beneath beside between even every into many never before any "
    "inside without enough goodbye nothing only over poem poems under until upon within someone sorry hello "
    "welcome numbers answer haiku again today whisper number language little verses away perhaps programs very "
    "question brackets instead",
    3: "another nobody tomorrow yesterday everyone syllable syllables",
}
_UNITS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS: Final = (
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS: Final = ("twenty", "thirty", "forty", "fifty")
NUMBERS: Final[tuple[str, ...]] = (
    *_UNITS,
    *_TEENS,
    *(ten if unit == 0 else f"{ten}-{_UNITS[unit]}" for ten in _TENS for unit in range(10)),
)
_NUMBER_SYLLABLES: Final[dict[str, int]] = {
    **dict.fromkeys(_UNITS, 1),
    **dict.fromkeys(_TEENS, 2),
    **dict.fromkeys(_TENS, 2),
    "zero": 2,
    "seven": 2,
    "ten": 1,
    "eleven": 3,
    "twelve": 1,
    "seventeen": 3,
}
_PLURALS: Final[dict[str, str]] = {
    "calf": "calves", "child": "children", "deer": "deer", "fish": "fish", "fisherman": "fishermen",
    "goldfish": "goldfish", "goose": "geese", "leaf": "leaves", "mouse": "mice", "salmon": "salmon", "trout": "trout",
    "thief": "thieves", "wolf": "wolves",
}  # fmt: skip
_DOUBLED: Final = frozenset({"hum", "nap", "run", "spin", "swim", "forget"})
_SIBILANTS: Final = ("s", "x", "z", "ch", "sh", "ce", "ge", "se", "ze")


def plural(noun: str, count: int) -> tuple[str, int]:
    """Return the plural (or the verb's third person) of a word of `count` syllables, with its syllables."""
    if noun in _PLURALS:
        return _PLURALS[noun], count
    if noun.endswith(_SIBILANTS):
        return noun + ("s" if noun.endswith("e") else "es"), count + 1
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies", count
    return noun + ("es" if noun == "echo" else "s"), count


def participle(verb: str, count: int) -> tuple[str, int]:
    """Return the -ing form of a verb of `count` syllables, with its syllables."""
    if verb in _DOUBLED:
        return verb + verb[-1] + "ing", count + 1
    if verb.endswith("le"):
        return verb[:-1] + "ing", count
    return verb.removesuffix("e") + "ing", count + 1


def number_syllables(word: str) -> int:
    """Return the syllables of a number word such as "twenty-nine"."""
    return sum(_NUMBER_SYLLABLES[part] for part in word.split("-"))


def _flat(lists: dict[int, str]) -> dict[str, int]:
    return {word: count for count, words in lists.items() for word in words.split()}


def _build() -> dict[str, dict[str, int]]:
    """Return every class of surface words: class name -> word -> syllables."""
    out: dict[str, dict[str, int]] = {"adj": _flat(ADJECTIVES), "adv": _flat(ADVERBS)}
    nouns = {name: _flat(lists) for name, lists in COUNT_NOUNS.items()}
    out |= nouns | {name: _flat(lists) for name, lists in MASS_NOUNS.items()}
    out |= {name + "s": dict(plural(w, n) for w, n in table.items()) for name, table in nouns.items()}
    groups = {name: _flat(lists) for name, lists in VERBS.items()}
    themes = {name: {w: n for g in used for w, n in groups[g].items()} for name, used in THEMES.items()}
    for name, table in {**themes, "trans": groups["trans"]}.items():
        out[f"V.{name}"] = table
        out[f"Vs.{name}"] = dict(plural(w, n) for w, n in table.items())
        out[f"Ving.{name}"] = dict(participle(w, n) for w, n in table.items())
    out["Ving"] = {w: n for name in themes for w, n in out[f"Ving.{name}"].items()}
    out["water"] = {w: nouns["place"][w] for w in _WATER.split()}
    out["room"] = {w: nouns["place"][w] for w in _ROOM.split()}
    out["ground"] = {w: n for w, n in nouns["place"].items() if w not in out["room"]}
    out["n"] = {w: n for name in nouns for w, n in nouns[name].items()}
    out["ns"] = {w: n for name in nouns for w, n in out[name + "s"].items()}
    out["m"] = {w: n for name in MASS_NOUNS if name not in {"season", "hour"} for w, n in out[name].items()}
    out["thing"] = {w: n for name in ("object", "plant", "machine") for w, n in nouns[name].items()}
    out["numany"] = {word: number_syllables(word) for word in NUMBERS}
    out["num"] = {word: n for word, n in out["numany"].items() if word != "one"}
    out["one"] = {"one": 1}
    return out


CLASSES: Final[dict[str, dict[str, int]]] = _build()
LEMMAS: Final[dict[str, int]] = {
    word: count
    for lists in (*COUNT_NOUNS.values(), *MASS_NOUNS.values(), ADJECTIVES, *VERBS.values())
    for word, count in _flat(lists).items()
}
VOCABULARY: Final[dict[str, int]] = {
    word: count for table in CLASSES.values() for word, count in table.items() if word not in NUMBERS
}
SYLLABLES: Final[dict[str, int]] = {
    **{word.lower(): count for word, count in _flat(_FUNCTION).items()},
    **VOCABULARY,
    **CLASSES["numany"],
}


_MARKS: Final = ".,;:!?…—-'\"()\u2018\u2019\u201c\u201d"


def normalise(token: str) -> str:
    """Return a token without its punctuation and capitals, as the syllable table spells it."""
    return token.strip(_MARKS).lower()


def line_syllables(line: str, extra: dict[str, int] | None = None) -> int | None:
    """Return the syllables of a line, or None where a word is in neither the table nor `extra`."""
    total = 0
    for token in line.split():
        word = normalise(token)
        if not any(character.isascii() and character.isalpha() for character in word):
            continue
        count = SYLLABLES.get(word, (extra or {}).get(word))
        if count is None:
            return None
        total += count
    return total


def scans(text: str, extra: dict[str, int] | None = None) -> bool:
    """Tell whether a text is three lines of five, seven and five syllables."""
    return [line_syllables(line, extra) for line in text.strip().split("\n")] == [5, 7, 5]
