"""The backgrounds by hand: which files show a scene, and its plain name.

Close-ups are kept where they still read as a place or a surface; logos, abstract designs and scenes
whose main thing is an animal or a person are left out.
"""

from __future__ import annotations

from anyref.lab.sources import LOMIRI, LXQT, MATE, PALAPELI, PLASMA, SKIMAGE, SKLEARN, Package

Scene = tuple[str, str] | tuple[str, str, str]  # file, name, licence where it is not the package's

_LOMIRI = "usr/share/backgrounds"
_LXQT = "usr/share/lxqt/wallpapers"
_MATE = "usr/share/backgrounds/mate/nature"
_PALAPELI = "usr/share/palapeli"
_PLASMA = "usr/share/wallpapers"
_PLASMA_SIZE = "contents/images/2560x1600.jpg"

SCENES: dict[Package, tuple[Scene, ...]] = {
    MATE: (
        (f"{_MATE}/Aqua.jpg", "water"),
        (f"{_MATE}/Blinds.jpg", "green leaf"),
        (f"{_MATE}/Dune.jpg", "dune"),
        (f"{_MATE}/FreshFlower.jpg", "orange petals"),
        (f"{_MATE}/Garden.jpg", "marigold garden"),
        (f"{_MATE}/GreenMeadow.jpg", "meadow"),
        (f"{_MATE}/LadyBird.jpg", "garden"),
        (f"{_MATE}/RainDrops.jpg", "wet leaves"),
        (f"{_MATE}/Storm.jpg", "road"),
        (f"{_MATE}/TwoWings.jpg", "autumn garden"),
        (f"{_MATE}/Wood.jpg", "wooden floor"),
        (f"{_MATE}/YellowFlower.jpg", "sunflower"),
    ),
    PLASMA: (
        (f"{_PLASMA}/Altai/contents/images/5120x2880.png", "blue mountains"),
        (f"{_PLASMA}/Autumn/{_PLASMA_SIZE}", "autumn field"),
        (f"{_PLASMA}/BytheWater/{_PLASMA_SIZE}", "dock"),
        (f"{_PLASMA}/ColdRipple/{_PLASMA_SIZE}", "pier"),
        (f"{_PLASMA}/ColorfulCups/{_PLASMA_SIZE}", "paper cups"),
        (f"{_PLASMA}/DarkestHour/{_PLASMA_SIZE}", "dark lake"),
        (f"{_PLASMA}/EveningGlow/{_PLASMA_SIZE}", "lake shore"),
        (f"{_PLASMA}/FallenLeaf/{_PLASMA_SIZE}", "autumn leaves"),
        (f"{_PLASMA}/Grey/{_PLASMA_SIZE}", "steel roof"),
        (f"{_PLASMA}/IceCold/contents/images/5120x2880.png", "ice"),
        (f"{_PLASMA}/Kite/{_PLASMA_SIZE}", "blue sky"),
        (f"{_PLASMA}/OneStandsOut/{_PLASMA_SIZE}", "bushes"),
        (f"{_PLASMA}/PastelHills/contents/images/3200x2000.jpg", "pastel hills"),
        (f"{_PLASMA}/Patak/contents/images/5120x2880.png", "river"),
        (f"{_PLASMA}/Path/{_PLASMA_SIZE}", "forest"),
        (f"{_PLASMA}/SafeLanding/contents/images/5120x2880.jpg", "valley"),
        (f"{_PLASMA}/Volna/contents/images/5120x2880.jpg", "beach"),
        (f"{_PLASMA}/summer_1am/{_PLASMA_SIZE}", "purple lake"),
    ),
    LOMIRI: (
        (f"{_LOMIRI}/Bridge_by_Sander_Klootwijk.jpg", "bridge", "CC-BY-SA-4.0"),
        (f"{_LOMIRI}/Dragonfly_by_Bolly.jpg", "tree", "CC-BY-SA-4.0"),
        (f"{_LOMIRI}/Picture_0B_by_freespace.jpg", "red bowl"),
        (f"{_LOMIRI}/Picture_1A_by_freespace.jpg", "paint brushes"),
        (f"{_LOMIRI}/Wine_by_Jakkub_Mede.jpg", "living room"),
        (f"{_LOMIRI}/aitzgorri_by_Aitzol_Berasategi.jpg", "mountain meadow"),
        (f"{_LOMIRI}/life_by_Aitzol_Berasategi.jpg", "creek"),
        (f"{_LOMIRI}/picosdeeuropa_by_Aitzol_Berasategi.jpg", "mountain trail"),
        (f"{_LOMIRI}/seeding_by_Clements_Engelhardt.jpg", "dandelion field", "CC0-1.0"),
        (f"{_LOMIRI}/sunset_by_Aitzol_Berasategi.jpg", "hilltop"),
    ),
    LXQT: (
        (f"{_LXQT}/Butterfly-Kenneth-Wimer.jpg", "pale meadow"),
        (f"{_LXQT}/Valendas.png", "misty mountains"),
        (f"{_LXQT}/after-the-rain.jpg", "sunset sky"),
        (f"{_LXQT}/appleflower.png", "spring garden"),
        (f"{_LXQT}/beam.png", "dark hills"),
        (f"{_LXQT}/butterfly.png", "dark garden"),
        (f"{_LXQT}/cloud.png", "cloudy sky"),
        (f"{_LXQT}/drop.png", "dewy grass"),
        (f"{_LXQT}/flowers.png", "flower field"),
        (f"{_LXQT}/fog.jpg", "foggy field"),
        (f"{_LXQT}/simple_blue_widescreen.png", "blue wall"),
        (f"{_LXQT}/this-is-not-windows.jpg", "green hills"),
        (f"{_LXQT}/triangles.png", "mosaic"),
    ),
    PALAPELI: (
        (f"{_PALAPELI}/backgrounds/Eliminator-Funk-2.jpg", "dark rock"),
        (f"{_PALAPELI}/backgrounds/Rear-Admiral-Diplomat-1.jpg", "mossy ground"),
        (f"{_PALAPELI}/backgrounds/Time-For-Lunch-2.jpg", "marble floor"),
        (f"{_PALAPELI}/backgrounds/gon-defends-the-critters-1.jpg", "lawn"),
        (f"{_PALAPELI}/backgrounds/mahogany-handjob-1.jpg", "wooden table"),
        (f"{_PALAPELI}/collection/castle-maintenon.jpg", "castle", "GFDL"),
        (f"{_PALAPELI}/collection/cincinnati-bridge.jpg", "night bridge", "public domain"),
        (f"{_PALAPELI}/collection/citrus-fruits.jpg", "citrus slices", "public domain"),
        (f"{_PALAPELI}/collection/european-honey-bee.jpg", "purple flower", "public domain"),
    ),
    SKIMAGE: (
        ("skimage/data/brick.png", "brick wall"),
        ("skimage/data/coffee.png", "cafe table"),
        ("skimage/data/grass.png", "dry grass"),
        ("skimage/data/gravel.png", "gravel"),
        ("skimage/data/hubble_deep_field.jpg", "starry sky", "public domain"),
        ("skimage/data/moon.png", "moon surface", "public domain"),
        ("skimage/data/motorcycle_left.png", "garage", "unstated"),
        ("skimage/data/rocket.jpg", "launch pad", "public domain"),
    ),
    SKLEARN: (
        ("sklearn/datasets/images/china.jpg", "temple"),
        ("sklearn/datasets/images/flower.jpg", "dahlia"),
    ),
}
