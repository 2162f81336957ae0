"""Words and names that the families draw from."""

_WORDS = """
    acorn anchor apple arrow autumn bacon badge basin beach berry blanket bottle branch bread
    bridge bronze brush bucket button cabin camel candle canvas carbon carpet castle cedar chalk
    cherry circle clover cobalt copper coral cotton cradle cricket crystal cushion daisy dancer
    desert dinner donkey dragon eagle ember engine fabric falcon feather fiddle finger flame
    flute forest fossil fountain garden garlic ginger glacier goblet granite guitar hammer harbor
    hazel helmet honey hunter island ivory jacket jasmine jelly jungle kettle kitten ladder lagoon
    lantern lemon lettuce lily lizard locket magnet maple marble meadow melon mirror monkey
    mountain mustard napkin needle nickel nutmeg oasis ocean olive onion orange orchid otter
    oyster paddle palace panther paper pebble pencil pepper pickle pillow pirate planet plaster
    pocket pony poplar prairie pumpkin quartz quiver rabbit radish raven ribbon river rocket
    saddle saffron sailor salmon sandal satin scarf shadow shovel silver slipper spider spruce
    squash statue stone summer tablet temple thistle thunder ticket tiger timber tomato tulip
    tunnel turnip valley velvet violet walnut whale willow window winter wizard yogurt
    zebra"""
WORDS = tuple(_WORDS.split())

_NAMES = """
    Ada Amir Ana Ben Carla Chen Dana Dev Elif Emil Fatima Femi Gita Hana Hugo Ines Ivan Jamal
    Jana Kofi Lars Lena Luis Maya Mina Nadia Noor Olga Omar Petra Priya Ravi Rosa Sami Sven Tara
    Tomas Uma Vera Wei Yara Yusuf Zara Zoe"""
NAMES = tuple(_NAMES.split())

# Things that are counted: singular, plural.
THINGS = (
    ("apple", "apples"),
    ("book", "books"),
    ("card", "cards"),
    ("coin", "coins"),
    ("cookie", "cookies"),
    ("flower", "flowers"),
    ("marble", "marbles"),
    ("orange", "oranges"),
    ("pencil", "pencils"),
    ("shell", "shells"),
    ("sticker", "stickers"),
    ("stamp", "stamps"),
)
