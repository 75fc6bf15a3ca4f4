"""What built-in instructions ask about: topics, each with short true sentences without commas, from which replies are made."""

from __future__ import annotations

TOPICS: dict[str, tuple[str, ...]] = {
    "bees": (
        "Bees carry pollen from flower to flower.", "A hive has one queen and many workers.", "Workers make honey from nectar.",
        "A bee dances to show where food is.", "Most bees die after they sting a person.", "Farmers need bees for their fruit.",
        "In winter the bees keep each other warm.",
    ),
    "bicycles": (
        "A bicycle turns the strength of legs into speed.", "Its chain joins the pedals to the rear wheel.",
        "Low gears help on steep hills.", "Good brakes matter more than fast wheels.", "A helmet protects the head in a fall.",
        "Tires with enough air roll more easily.", "Many cities build lanes for riders.",
    ),
    "bread": (
        "Bread is made of flour and water and salt.", "Yeast fills the dough with small bubbles.",
        "Kneading makes the dough strong.", "A hot oven gives a brown crust.", "The loaf should cool before it is cut.",
        "Dark bread is often made from rye.", "Old bread still makes good toast.",
    ),
    "bridges": (
        "A bridge carries people over water or roads.", "Arches push their load into the ground.",
        "Cables can hold a very long deck.", "Engineers leave gaps because steel grows in the heat.",
        "Wind can make a weak bridge swing.", "Old stone bridges have stood for centuries.",
        "Each bridge is tested before it opens.",
    ),
    "cats": (
        "Cats sleep for more than half of the day.", "Their whiskers tell them how wide a gap is.",
        "A cat lands on its feet most of the time.", "Kittens learn by playing with each other.",
        "Cats see well when there is little light.", "A happy cat often purrs.", "Rough tongues keep their fur clean.",
    ),
    "chess": (
        "Chess is a game for two players.", "The queen is the strongest piece.",
        "A pawn that reaches the end becomes another piece.", "The game ends when a king cannot escape.",
        "Good players plan several moves ahead.", "A clock limits the time to think.",
        "Computers now play better than any person.",
    ),
    "clouds": (
        "Clouds are made of tiny drops of water.", "They form when warm air rises and cools.",
        "High clouds hold crystals of ice.", "Dark clouds often bring rain.", "Fog is a cloud that touches the ground.",
        "Wind carries clouds over great distances.", "Clouds keep the night warmer.",
    ),
    "coffee": (
        "Coffee is made from roasted beans.", "The plants grow in warm countries.", "Fine grains give a stronger cup.",
        "Water should be hot but not boiling.", "Caffeine keeps many people awake.", "Fresh beans smell best.",
        "Some people add milk or sugar.",
    ),
    "dogs": (
        "Dogs were the first animals to live with people.", "Their noses are far better than ours.",
        "A dog needs a walk every day.", "Puppies must learn what they may chew.", "Some dogs guide people who cannot see.",
        "A wagging tail does not always mean joy.", "Dogs understand many words.",
    ),
    "earthquakes": (
        "Earthquakes happen when plates of rock slip.", "Most of them are too weak to feel.",
        "Strong ones can bring down houses.", "Waves at sea may follow a large quake.",
        "Safe buildings can sway without breaking.", "Nobody can say the exact day of the next one.",
        "A sturdy table gives shelter inside.",
    ),
    "forests": (
        "Forests give homes to countless animals.", "Trees store carbon in their wood.", "Fallen leaves become new soil.",
        "Roots hold the ground on steep slopes.", "Fires can help some seeds to open.", "Old forests hold very large trees.",
        "A quiet walk among trees calms the mind.",
    ),
    "gardens": (
        "A garden needs light and water and patience.", "Compost feeds the soil.", "Seeds should be sown at the right depth.",
        "Weeds take space from young plants.", "Snails like fresh lettuce.", "Herbs grow well in small pots.",
        "Autumn is a good time to plant bulbs.",
    ),
    "glass": (
        "Glass is made from melted sand.", "It lets light pass but keeps out the wind.",
        "Workers blow it into bottles and bowls.", "Metals give glass its colors.", "It breaks into sharp pieces.",
        "Old bottles can be melted again.", "Special glass survives great heat.",
    ),
    "libraries": (
        "A library lends books to everyone.", "Quiet rooms help people to study.", "Librarians know where to look.",
        "Many libraries also lend films and games.", "Children hear stories there.", "Old maps are kept in dark drawers.",
        "A library card is often free.",
    ),
    "lighthouses": (
        "A lighthouse warns ships of rocks.", "Its lamp shines far over the sea.", "Each tower blinks in its own rhythm.",
        "Keepers once lived beside the lamp.", "Lenses bundle the light into a beam.", "Most towers now work without a keeper.",
        "Storms beat against their thick walls.",
    ),
    "mountains": (
        "Mountains rise where plates of rock collide.", "The air grows thin near the top.", "Snow feeds the rivers below.",
        "Weather changes quickly on a summit.", "Goats climb where people need ropes.", "Glaciers carve deep valleys.",
        "Climbers rest to get used to the height.",
    ),
    "music": (
        "Music is sound with order.", "Rhythm makes people want to dance.", "A melody can stay in the mind for days.",
        "Strings and pipes and drums sound different.", "Practice matters more than talent.", "Singing together joins strangers.",
        "Silence is a part of every song.",
    ),
    "owls": (
        "Owls hunt mostly at night.", "Soft feathers make their flight silent.", "They can turn their heads very far.",
        "Large eyes gather what little light there is.", "Ears at different heights find a mouse in the dark.",
        "Owls swallow small prey whole.", "Young owls practice on branches first.",
    ),
    "rivers": (
        "Rivers carry rain back to the sea.", "Many of them begin as small springs.", "Slow water drops its sand.",
        "Fish climb some rivers to lay eggs.", "Dams turn the flow into power.", "Floods leave rich soil behind.",
        "Old towns stand beside rivers.",
    ),
    "salt": (
        "Salt makes food taste stronger.", "It comes from the sea or from mines.", "People once used it to keep meat fresh.",
        "Too much of it is bad for the heart.", "Roads are salted when ice is near.", "The body needs a little of it.",
        "Salt water freezes later than fresh water.",
    ),
    "the Moon": (
        "The Moon circles the Earth in about a month.", "It always shows us the same side.", "Its pull makes the tides.",
        "Craters cover its gray surface.", "It has no air to breathe.", "Twelve people have walked on it.",
        "It shines with the light of the Sun.",
    ),
    "trains": (
        "Trains run on rails of steel.", "One engine can pull many cars.", "Signals keep trains apart.",
        "A fast train needs a long way to stop.", "Freight trains carry coal and grain and cars.", "Night trains have beds.",
        "Tunnels make the way through mountains short.",
    ),
    "volcanoes": (
        "Volcanoes are openings in the crust of the Earth.", "Hot rock rises and flows out as lava.",
        "Ash can darken the sky for days.", "Some islands are the tops of volcanoes.", "Soil near them is often rich.",
        "Gas escapes before many eruptions.", "Scientists watch them with sensors.",
    ),
    "whales": (
        "Whales breathe air through a hole on their head.", "The blue whale is the largest animal of all.",
        "Some whales sing for hours.", "They travel far between summer and winter.",
        "Many whales sieve tiny prey from the water.", "A calf drinks milk from its mother.", "Thick fat keeps them warm.",
    ),
}  # fmt: skip
