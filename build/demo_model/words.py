"""The word lists of the demo model: every word with its syllable count, grouped by class (pure data, no torch)."""

from __future__ import annotations

from typing import Final

Lists = dict[int, str]

BEINGS: Final[Lists] = {
    1: "bat bear bee bird cat child cook crab crane crow deer dog dove duck fish fox friend frog goat goose guest hawk "
    "hen horse king lamb lark monk moth mouse owl queen seal snail snake swan thief toad whale wolf wren",
    2: "artist baker beetle cricket dancer doctor dragon farmer father heron kitten lizard llama mother otter painter "
    "panda parrot penguin pigeon poet pony rabbit raven robin sailor salmon shepherd singer sister sparrow spider "
    "stranger swallow teacher tiger turtle weaver",
    3: "astronaut butterfly dragonfly elephant fisherman gardener grandmother hummingbird kangaroo musician "
    "nightingale octopus wanderer",
    4: "caterpillar librarian salamander",
}
THINGS: Final[Lists] = {
    1: "bell bench boat book bowl branch breeze broom bud chair clock cloud coat cup door drum fern flute gate hat "
    "kite lamp leaf map mask moon oak pear pine plum ring root rope rose sail screen seed ship shoe song spoon star "
    "stone storm sun sword train tree vine wave wheel wind",
    2: "anchor apple basket berry blanket blossom bottle candle cedar comet compass engine feather flower kettle "
    "ladder lantern laptop letter lily lotus maple mirror needle network notebook orchid pebble petal pillow planet "
    "poppy rainbow raindrop ribbon robot server shadow snowflake sunset teacup ticket token tulip whistle willow "
    "window",
    3: "bicycle computer daffodil melody piano processor satellite strawberry sunflower telescope umbrella violet "
    "violin",
    4: "accordion algorithm constellation dandelion harmonica watermelon",
}
PLACES: Final[Lists] = {
    1: "bay beach bridge brook cave cliff coast creek farm field hill inn lake lane park path pier pond pool porch "
    "road roof sea shore street stream town yard",
    2: "attic castle city cottage desert forest garden harbor island kitchen market meadow mountain ocean orchard "
    "prairie river station temple valley village",
    3: "balcony bakery cathedral library theater waterfall",
    4: "monastery",
}
MASS: Final[Lists] = {
    1: "bread code death dew dream dust fog frost grass grief hope ice joy life light love milk mist moss peace rain "
    "rice salt sand smoke snow spring tea time truth wine youth",
    2: "beauty coffee freedom friendship honey ivy kindness laughter moonlight music patience silence sorrow starlight "
    "stillness sugar sunlight thunder",
    3: "afternoon emptiness happiness harmony loneliness memory solitude",
    4: "eternity",
    5: "curiosity electricity imagination",
}
HOURS: Final[Lists] = {
    1: "dawn dusk night noon",
    2: "autumn evening midnight morning summer twilight winter",
}
ADJECTIVES: Final[Lists] = {
    1: "bare black blue bold brave bright brown calm clear cold cool dark dim faint fresh gold gray green "
    "lone lost low pale pure quick red rich sharp slow small smooth soft strange strong sweet swift tall thin vast "
    "warm white wild wise young",
    2: "bitter broken careful clever cloudy distant dreamy dusty empty endless foggy fragile frosty frozen gentle "
    "golden graceful happy hidden hollow holy humble hungry lazy lonely lucky misty muddy narrow noble patient "
    "peaceful playful purple quiet rainy restless rusty sacred salty secret silent silver simple sleepy snowy starry "
    "steady stormy tender tiny velvet weary windy wooden yellow",
    3: "beautiful curious delicate electric forgotten luminous magical radiant",
    4: "invisible melancholy mysterious solitary",
}
VERBS: Final[Lists] = {
    1: "bloom blink bow burn climb crawl dance doze drift fade fall float fly gleam glide glow grow hum leap lean nap "
    "pray rest rise roam shine sigh sing sink sleep smile soar spin stay swim wait weep yawn",
    2: "flicker flutter glimmer hover linger listen murmur ponder return shimmer slumber sparkle tremble vanish wander "
    "whisper wonder",
    3: "disappear remember",
    4: "philosophize",
}
PLURALS: Final[Lists] = {
    1: "bats bears bees bells birds boats bowls cats clouds crabs cranes crows cups dogs doors doves drums ducks ferns "
    "frogs goats hats hawks kites lamps larks leaves moths owls pears pines plums rings seeds ships shoes snails songs "
    "spoons stars stones swans toads trees waves whales wheels wolves",
    2: "apples baskets beetles berries blossoms candles crickets dancers farmers feathers flowers herons kittens "
    "lanterns letters lilies lizards otters parrots pebbles penguins petals poets poppies rabbits ravens ribbons "
    "robots sailors shadows snowflakes sparrows spiders tigers tulips turtles willows windows",
    3: "butterflies dragonflies elephants hummingbirds strawberries sunflowers umbrellas",
    4: "caterpillars dandelions",
}
# What lines are made of beside the words above. "one" is a number word, and counted there.
_FUNCTION: Final[Lists] = {
    1: "a the of in on by at and but no not as is are was my this that these each all who where how do does will let "
    "with through from for then so yet still here now there once more much such like I you we he she they me us "
    "it knows know seen has have just too hear think oh far late deep yes page verse room count counts says could "
    "keeps left word words thanks ask name text read speaks am comes you while them reads were O",
    2: "above across after along again alone among because before behind beneath beside between even many nothing "
    "only under until within without enough hello someone welcome goodbye haiku toward very numbers",
    3: "nobody tomorrow syllables everything",
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
_SIBILANTS: Final = ("s", "x", "z", "ch", "sh", "ce", "ge", "se", "ze")


def third_person(verb: str, count: int) -> tuple[str, int]:
    """Return the third person of a verb of `count` syllables, with its syllables."""
    if verb.endswith(_SIBILANTS):
        return verb + ("s" if verb.endswith("e") else "es"), count + 1
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies", count
    return verb + "s", count


def number_syllables(word: str) -> int:
    """Return the syllables of a number word such as "twenty-nine"."""
    return sum(_NUMBER_SYLLABLES[part] for part in word.split("-"))


def _flat(lists: Lists) -> dict[str, int]:
    return {word: count for count, words in lists.items() for word in words.split()}


# Every class of words: its name -> word -> syllables.
CLASSES: Final[dict[str, dict[str, int]]] = {
    "b": _flat(BEINGS),
    "t": _flat(THINGS),
    "p": _flat(PLACES),
    "m": _flat(MASS),
    "h": _flat(HOURS),
    "a": _flat(ADJECTIVES),
    "v": _flat(VERBS),
    "s": dict(third_person(verb, count) for verb, count in _flat(VERBS).items()),
    "ns": _flat(PLURALS),
    "num": {word: number_syllables(word) for word in NUMBERS if word != "one"},
    "one": {"one": 1},
}
VOCABULARY: Final[dict[str, int]] = {
    word: count for table in CLASSES.values() for word, count in table.items() if word not in NUMBERS
}
CLASS_OF: Final[dict[str, str]] = {word: name for name, table in CLASSES.items() for word in table}
SYLLABLES: Final[dict[str, int]] = {
    **{word.lower(): count for word, count in _flat(_FUNCTION).items()},
    **VOCABULARY,
    **CLASSES["num"],
    **CLASSES["one"],
}


_MARKS: Final = ".,;:!?…—-'\"()\u2018\u2019\u201c\u201d"


def normalise(token: str) -> str:
    """Return a token without its punctuation and capitals, as the syllable table spells it."""
    return token.strip(_MARKS).lower()


def line_syllables(line: str) -> int | None:
    """Return the syllables of a line, or None where a word is not in the table."""
    total = 0
    for token in line.split():
        word = normalise(token)
        if not word:
            continue
        count = SYLLABLES.get(word)
        if count is None:
            return None
        total += count
    return total


def scans(text: str) -> bool:
    """Tell whether a text is three lines of five, seven and five syllables."""
    return [line_syllables(line) for line in text.strip().split("\n")] == [5, 7, 5]
