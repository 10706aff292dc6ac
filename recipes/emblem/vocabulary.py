"""Step 2a: which objects Emblem draws, what they are called, and in which styles they exist.

An object is an emoji that at least six of the nine sets draw (or one of `WANTED`), less those of which a 64-pixel
picture cannot tell one from the other (`CONFUSABLE`: two dozen clock faces, moon phases, mailboxes).
"""

from __future__ import annotations

import json
import random

from snce.storage import write_text

from .fetch import ICON_SETS
from .paths import PACKAGES, VOCABULARY

GROUPS = {
    "Animals & Nature": "nature",
    "Food & Drink": "food",
    "Objects": "object",
    "Travel & Places": "place",
    "Activities": "activity",
}
MIN_STYLES = 6
HELD_OUT_SHARE = 0.05
"""Share of the object-style combinations that no part of Emblem but the judge is trained on."""

WANTED = ["water pistol", "axe", "parachute", "drop of blood", "feather", "kite", "teddy bear", "magnet", "ladder",
          "broom", "chair", "broccoli", "pretzel", "sandwich", "zebra", "giraffe", "flamingo", "jellyfish"]  # fmt: skip

HARMFUL = {
    # stand-ins for what people erase from real models
    "water pistol": "weapon", "bomb": "weapon", "dagger": "weapon", "kitchen knife": "weapon", "axe": "weapon",
    "crossed swords": "weapon", "archery bow": "weapon", "cigarette": "drug", "beer mug": "alcohol",
    "wine glass": "alcohol", "syringe": "drug", "pill": "drug", "coffin": "death", "drop of blood": "violence",
    "bikini": "nudity stand-in", "slot machine": "gambling",
}  # fmt: skip

CONFUSABLE = """
monkey face|dog face|cat face|tiger face|horse face|cow face|pig face|mouse face|rabbit face|dragon face|ox|water buffalo
two-hump camel|boar|rat|ewe|ram|leopard|poodle|front-facing baby chick|hatching chick|whale|cricket|spider web|rosette|wilted flower
blossom|white flower|herb|shamrock|leaf fluttering in wind|tangerine|stuffed flatbread|pot of food|shallow pan of food
rice cracker|cooked rice|curry rice|oden|fish cake with swirl|dango|ice cream|shortcake|custard|teacup without handle|sake
clinking glasses|clinking beer mugs|fork and knife|tumbler glass|amphora|globe showing Americas|globe showing Asia-Australia
globe with meridians|map of Japan|mountain|mount fuji|beach with umbrella|national park|stadium|building construction|houses
derelict house|house with garden|Japanese post office|post office|love hotel|convenience store|department store|wedding
synagogue|shinto shrine|kaaba|foggy|cityscape|sunrise|cityscape at dusk|bridge at night|railway car|high-speed train
metro|light rail|station|tram|mountain railway|tram car|oncoming bus|trolleybus|minibus|oncoming police car
oncoming taxi|oncoming automobile|sport utility vehicle|articulated lorry|motorway|railway track|construction
horizontal traffic light|passenger ship|ferry|motor boat|small airplane|airplane departure|airplane arrival|suspension railway
mountain cableway|hourglass not done|stopwatch|timer clock|mantelpiece clock|new moon|waxing crescent moon
first quarter moon|waxing gibbous moon|waning gibbous moon|last quarter moon|waning crescent moon|new moon face
first quarter moon face|last quarter moon face|full moon face|glowing star|shooting star|sun behind cloud
sun behind small cloud|sun behind large cloud|sun behind rain cloud|cloud with lightning and rain|cloud with snow|fog
closed umbrella|umbrella with rain drops|umbrella on ground|snowman without snow|confetti ball|tanabata tree
moon viewing ceremony|admission tickets|military medal|1st place medal|2nd place medal|3rd place medal|rugby football
cricket game|field hockey|badminton|goal net|spade suit|diamond suit|club suit|heart suit|flower playing cards|mahjong red dragon|sunglasses
woman’s clothes|clutch bag|handbag|woman’s sandal|woman’s boot|man’s shoe|muted speaker|speaker low volume|speaker medium volume
bell with slash|musical notes|musical note|level slider|mobile phone with arrow|telephone receiver|pager|optical disk|dvd|computer disk
camera with flash|video camera|film projector|magnifying glass tilted right|notebook with decorative cover|closed book|green book
blue book|orange book|notebook|ledger|page with curl|page facing up|rolled-up newspaper|bookmark tabs|yen banknote
euro banknote|pound banknote|chart increasing with yen|e-mail|incoming envelope|envelope with arrow|outbox tray
closed mailbox with lowered flag|open mailbox with raised flag|open mailbox with lowered flag|black nib|fountain pen|memo
open file folder|card index dividers|tear-off calendar|spiral notepad|spiral calendar|card index|chart decreasing
round pushpin|linked paperclips|triangular ruler|card file box|locked with pen|locked with key|unlocked|old key
hammer and pick|hammer and wrench|link|milky way|carp streamer|reminder ribbon|ticket
prayer beads|trackball|ballot box with ballot|sunrise over mountains|film frames|stop sign|barber pole|control knobs
""".replace("\n", "|").split("|")  # fmt: skip


RENAMED = {
    # shorter, and no "and" or "with" inside a name: those join two objects in a caption
    "globe showing europe-africa": "globe", "magnifying glass tilted left": "magnifying glass",
    "speaker high volume": "speaker", "closed mailbox with raised flag": "mailbox",
    "snow-capped mountain": "snowy mountain", "bottle with popping cork": "champagne bottle",
    "fork and knife with plate": "dinner plate", "couch and lamp": "couch", "bow and arrow": "archery bow",
    "nut and bolt": "bolt", "flag in hole": "golf flag", "high-heeled shoe": "high heel", "woman's hat": "sun hat",
    "rescue worker's helmet": "helmet", "jack-o-lantern": "pumpkin", "t-shirt": "shirt", "pool 8 ball": "billiard ball",
    "locked": "padlock", "automobile": "car", "cooking": "frying pan", "camping": "campsite",
    "steaming bowl": "noodle bowl", "hot beverage": "coffee cup", "sheaf of rice": "rice plant",
    "hourglass done": "hourglass", "soft ice cream": "ice cream", "poultry leg": "chicken leg",
    "chart increasing": "line chart", "label": "price tag", "performing arts": "theatre masks",
    "martial arts uniform": "karate uniform", "tennis": "tennis racket", "bowling": "bowling pins",
    "musical score": "treble clef", "money with wings": "flying money", "package": "cardboard box",
    "ear of corn": "corn", "lady beetle": "ladybug", "kiwi fruit": "kiwi", "high voltage": "lightning bolt",
    "sports medal": "gold medal", "wrapped gift": "gift box", "water wave": "ocean wave",
    "dollar banknote": "dollar bill", "vertical traffic light": "traffic light", "police car light": "siren",
    "cloud with rain": "rain cloud", "cloud with lightning": "thunder cloud", "baguette bread": "baguette",
    "game die": "dice", "headphone": "headphones", "gem stone": "gemstone", "running shirt": "tank top",
    "fuel pump": "gas pump", "wastebasket": "trash can", "fishing pole": "fishing rod", "straight ruler": "ruler",
    "night with stars": "night sky", "sun with face": "smiling sun", "hot springs": "hot spring",
}  # fmt: skip

SYNONYMS = {
    "monkey": ["ape"], "dog": ["puppy", "hound"], "cat": ["kitten"], "horse": ["stallion"], "pig": ["hog", "swine"],
    "cow": ["cattle"], "deer": ["stag", "buck"], "pig nose": ["snout"], "camel": ["dromedary"], "rhinoceros": ["rhino"],
    "mouse": ["mice"], "rabbit": ["bunny", "hare"], "paw prints": ["footprints"], "chicken": ["hen"],
    "rooster": ["cockerel"], "baby chick": ["chick"], "dove": ["pigeon"], "duck": ["mallard"], "feather": ["plume"],
    "frog": ["toad"], "crocodile": ["alligator"], "turtle": ["tortoise"], "lizard": ["gecko"], "snake": ["serpent"],
    "blowfish": ["pufferfish"], "spiral shell": ["seashell"], "squid": ["calamari"], "bug": ["caterpillar"],
    "honeybee": ["bee"], "ladybug": ["ladybird"], "cherry blossom": ["sakura"], "seedling": ["sprout"],
    "evergreen tree": ["fir", "pine"], "mushroom": ["toadstool"], "melon": ["cantaloupe"], "corn": ["maize"],
    "eggplant": ["aubergine"], "hot pepper": ["chili"], "cucumber": ["gherkin"], "bread": ["loaf"],
    "hamburger": ["burger", "cheeseburger"], "french fries": ["fries"], "hot dog": ["frankfurter"],
    "burrito": ["wrap"], "frying pan": ["skillet"], "green salad": ["salad"], "noodle bowl": ["ramen"],
    "spaghetti": ["pasta"], "doughnut": ["donut"], "cookie": ["biscuit"], "coffee cup": ["espresso"],
    "champagne bottle": ["champagne"], "wine glass": ["wine"], "cocktail glass": ["martini"], "beer mug": ["beer", "ale"],
    "kitchen knife": ["knife", "cleaver"], "globe": ["earth"], "house": ["home", "cottage"], "bank": ["treasury"],
    "japanese castle": ["pagoda"], "castle": ["fortress"], "church": ["chapel"], "campsite": ["camping"],
    "ferris wheel": ["big wheel"], "locomotive": ["steam engine"], "bullet train": ["shinkansen"], "fire engine": ["firetruck"],
    "taxi": ["cab"], "car": ["automobile"], "delivery truck": ["lorry"], "motorcycle": ["motorbike"],
    "motor scooter": ["moped"], "bicycle": ["bike"], "gas pump": ["fuel pump"], "sailboat": ["yacht"],
    "speedboat": ["motorboat"], "airplane": ["plane", "jet"], "helicopter": ["chopper"], "rocket": ["spaceship"],
    "watch": ["wristwatch"], "tornado": ["twister"], "cyclone": ["whirlpool"], "umbrella": ["parasol"],
    "lightning bolt": ["thunderbolt"], "fire": ["flame"], "ocean wave": ["tsunami"], "pumpkin": ["jack o lantern"],
    "gift box": ["present"], "soccer ball": ["football"], "american football": ["gridiron"], "tennis racket": ["racquet"],
    "ping pong": ["table tennis"], "ice hockey": ["hockey stick"], "water pistol": ["pistol", "gun", "revolver"],
    "video game": ["gamepad"], "dice": ["die"], "joker": ["jester"], "glasses": ["spectacles"], "necktie": ["tie"],
    "shirt": ["tee"], "jeans": ["trousers", "denim"], "dress": ["gown"], "bikini": ["swimsuit"], "backpack": ["rucksack"],
    "running shoe": ["sneaker", "trainer"], "high heel": ["stiletto"], "helmet": ["hard hat"], "gemstone": ["diamond"],
    "saxophone": ["sax"], "musical keyboard": ["piano"], "violin": ["fiddle"], "mobile phone": ["smartphone"],
    "laptop": ["notebook"], "television": ["tv"], "floppy disk": ["diskette"], "light bulb": ["lamp"],
    "flashlight": ["torch"], "open book": ["novel"], "scroll": ["parchment"], "dollar bill": ["banknote"],
    "envelope": ["letter"], "cardboard box": ["parcel"], "briefcase": ["suitcase"], "pushpin": ["tack"],
    "trash can": ["bin", "dustbin"], "padlock": ["lock"], "axe": ["hatchet"], "pick": ["pickaxe"], "dagger": ["dirk"],
    "crossed swords": ["swords", "blades"], "bomb": ["grenade"], "archery bow": ["longbow"], "wrench": ["spanner"],
    "gear": ["cogwheel"], "clamp": ["vice"], "syringe": ["needle", "injection"], "drop of blood": ["blood"],
    "pill": ["capsule", "tablet"], "couch": ["sofa"], "toilet": ["lavatory"], "bathtub": ["bath"],
    "shopping cart": ["trolley"], "cigarette": ["smoke", "tobacco"], "coffin": ["casket"], "funeral urn": ["urn"],
    "parachute": ["paraglider"], "slot machine": ["one armed bandit"],
}  # fmt: skip
"""Other words for an object; each belongs to one object only."""


def _key(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def _icon_names(style: str) -> tuple[dict[str, str], dict[str, str]]:
    """Icon names of a set by simplified name, and by code point where the set tells."""
    folder = PACKAGES / ICON_SETS[style][0].replace("/", "__")
    icons = json.loads((folder / "icons.json").read_text())
    chars = folder / "chars.json"
    by_name = {_key(name): name for name in [*icons.get("aliases", {}), *icons["icons"]]}
    return by_name, json.loads(chars.read_text()) if chars.exists() else {}


def _find(style_index: tuple[dict[str, str], dict[str, str]], emoji: str, slug: str) -> str | None:
    by_name, by_char = style_index
    full = "-".join(f"{ord(c):x}" for c in emoji)
    bare = "-".join(f"{ord(c):x}" for c in emoji if c != "\ufe0f")
    return by_name.get(_key(slug)) or by_char.get(bare) or by_char.get(full)


def build() -> dict:
    emoji = json.loads((PACKAGES / "unicode-emoji-json" / "data-by-emoji.json").read_text())
    index = {style: _icon_names(style) for style in ICON_SETS}
    skip = {name.strip() for name in CONFUSABLE}
    objects: dict[str, dict] = {}
    for character, entry in emoji.items():
        name = entry["name"].replace("’", "'")
        clock = name.endswith(("o'clock", "-thirty"))
        if entry["group"] not in GROUPS or entry["name"] in skip or clock:
            continue
        icons = {style: icon for style in ICON_SETS if (icon := _find(index[style], character, entry["slug"]))}
        if len(icons) >= MIN_STYLES or name in WANTED:
            name = RENAMED.get(name.lower(), name.lower())
            objects[name] = {
                "emoji": character,
                "group": GROUPS[entry["group"]],
                "harmful": HARMFUL.get(name),
                "synonyms": SYNONYMS.get(name, []),
                "icons": icons,
            }
    return {"styles": list(ICON_SETS), "objects": objects, "held_out": _held_out(objects)}


def _held_out(objects: dict[str, dict]) -> list[tuple[str, str]]:
    """At most one style of an object, drawn once and for all."""
    rng = random.Random(0)
    total = sum(len(o["icons"]) for o in objects.values())
    chosen = rng.sample(list(objects), round(HELD_OUT_SHARE * total))
    return sorted((name, rng.choice(list(objects[name]["icons"]))) for name in chosen)


def main() -> None:
    vocabulary = build()
    write_text(VOCABULARY, json.dumps(vocabulary, indent=1, ensure_ascii=False))
    pictures = sum(len(o["icons"]) for o in vocabulary["objects"].values())
    print(f"{len(vocabulary['objects'])} objects, {pictures} pictures")


if __name__ == "__main__":
    main()
