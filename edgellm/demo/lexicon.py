"""The words the embedded model can translate: English with French and Spanish, as small tables.

Knows forms (gender, plural, conjugation), no sentences.
"""

# ruff: noqa: E501
# A table row stays on one line.
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Noun:
    """One noun: singular and plural in each language, and the gender in French and Spanish."""

    en: str
    ens: str
    fr: str
    frs: str
    fr_gender: str
    es: str
    ess: str
    es_gender: str
    kind: str


@dataclass(frozen=True, slots=True)
class Adjective:
    """One adjective: masculine, feminine and their plurals; `early` stands before the French noun."""

    en: str
    fr: tuple[str, str, str, str]
    es: tuple[str, str, str, str]
    early: bool
    kinds: str
    state: bool  # Spanish says it with estar, not ser


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: English base, third person and past; French and Spanish forms for six persons."""

    en: str
    ens: str
    past: str
    fr_infinitive: str
    fr_present: tuple[str, ...]
    fr_participle: str
    fr_future: tuple[str, ...]
    es_infinitive: str
    es_present: tuple[str, ...]
    es_past: tuple[str, ...]
    es_future: tuple[str, ...]
    kinds: str  # kinds of nouns it takes; empty for none
    etre: bool = False


# en, en plural | fr, gender | es, gender ; a French or Spanish plural only where it is not regular
_NOUNS = {
    "food": """
        apple apples|pomme f|manzana f
        cake cakes|gâteau m gâteaux|pastel m pasteles
        egg eggs|œuf m|huevo m
        fish fish|poisson m|pescado m
        orange oranges|orange f|naranja f
        sandwich sandwiches|sandwich m|bocadillo m
        salad salads|salade f|ensalada f
        soup soups|soupe f|sopa f
        meal meals|repas m repas|comida f
        cheese cheeses|fromage m|queso m
        potato potatoes|pomme de terre f pommes de terre|patata f""",
    "drink": """
        coffee coffees|café m|café m
        tea teas|thé m|té m
        beer beers|bière f|cerveza f
        juice juices|jus m jus|zumo m""",
    "thing": """
        bag bags|sac m|bolsa f
        bicycle bicycles|vélo m|bicicleta f
        car cars|voiture f|coche m
        chair chairs|chaise f|silla f
        computer computers|ordinateur m|ordenador m ordenadores
        hat hats|chapeau m chapeaux|sombrero m
        key keys|clé f|llave f
        lamp lamps|lampe f|lámpara f
        phone phones|téléphone m|teléfono m
        shirt shirts|chemise f|camisa f
        suitcase suitcases|valise f|maleta f
        table tables|table f|mesa f
        ticket tickets|billet m|billete m
        umbrella umbrellas|parapluie m|paraguas m paraguas
        watch watches|montre f|reloj m relojes
        coat coats|manteau m manteaux|abrigo m
        camera cameras|appareil photo m appareils photo|cámara f""",
    "media": """
        book books|livre m|libro m
        letter letters|lettre f|carta f
        message messages|message m|mensaje m
        newspaper newspapers|journal m journaux|periódico m
        report reports|rapport m|informe m
        document documents|document m|documento m""",
    "film": """
        film films|film m|película f
        photo photos|photo f|foto f""",
    "door": """
        door doors|porte f|puerta f
        window windows|fenêtre f|ventana f
        box boxes|boîte f|caja f""",
    "ride": """
        bus buses|bus m bus|autobús m autobuses
        train trains|train m|tren m trenes
        taxi taxis|taxi m|taxi m
        plane planes|avion m|avión m aviones""",
    "person": """
        boy boys|garçon m|chico m
        brother brothers|frère m|hermano m
        daughter daughters|fille f|hija f
        doctor doctors|médecin m|médico m
        friend friends|ami m|amigo m
        man men|homme m|hombre m
        neighbor neighbors|voisin m|vecino m
        sister sisters|sœur f|hermana f
        son sons|fils m fils|hijo m
        teacher teachers|professeur m|profesor m profesores
        woman women|femme f|mujer f mujeres
        mother mothers|mère f|madre f
        father fathers|père m|padre m
        child children|enfant m|niño m
        student students|étudiant m|estudiante m
        colleague colleagues|collègue m|compañero m""",
    "animal": """
        dog dogs|chien m|perro m
        cat cats|chat m|gato m
        horse horses|cheval m chevaux|caballo m
        bird birds|oiseau m oiseaux|pájaro m""",
    "place": """
        airport airports|aéroport m|aeropuerto m
        bank banks|banque f|banco m
        beach beaches|plage f|playa f
        church churches|église f|iglesia f
        city cities|ville f|ciudad f ciudades
        garden gardens|jardin m|jardín m jardines
        hospital hospitals|hôpital m hôpitaux|hospital m hospitales
        hotel hotels|hôtel m|hotel m hoteles
        house houses|maison f|casa f
        kitchen kitchens|cuisine f|cocina f
        library libraries|bibliothèque f|biblioteca f
        market markets|marché m|mercado m
        museum museums|musée m|museo m
        office offices|bureau m bureaux|oficina f
        park parks|parc m|parque m
        pharmacy pharmacies|pharmacie f|farmacia f
        restaurant restaurants|restaurant m|restaurante m
        room rooms|chambre f|habitación f habitaciones
        school schools|école f|escuela f
        shop shops|magasin m|tienda f
        station stations|gare f|estación f estaciones
        street streets|rue f|calle f
        village villages|village m|pueblo m""",
}

# en | fr masculine, feminine[, plurals] | es masculine[, feminine, plurals] | early? | kinds | ser or estar
_ADJECTIVES = """
    red|rouge rouge|rojo||thing door food animal|ser
    blue|bleu bleue|azul azul azules azules||thing door|ser
    green|vert verte|verde verde||thing door food|ser
    white|blanc blanche|blanco||thing door animal|ser
    black|noir noire|negro||thing door animal|ser
    yellow|jaune jaune|amarillo||thing door|ser
    big|grand grande|grande grande|early|thing door place animal food|ser
    small|petit petite|pequeño|early|thing door place animal food|ser
    good|bon bonne|bueno|early|food drink media film|ser
    bad|mauvais mauvaise mauvais mauvaises|malo|early|food drink media film|ser
    expensive|cher chère|caro||thing food drink|ser
    cheap|bon marché bon marché bon marché bon marché|barato||thing food|ser
    interesting|intéressant intéressante|interesante interesante||media film place person|ser
    important|important importante|importante importante||media person|ser
    long|long longue|largo||media film|ser
    new|neuf neuve neufs neuves|nuevo||thing|ser
    modern|moderne moderne|moderno||place thing|ser
    quiet|calme calme|tranquilo||place|ser
    famous|célèbre célèbre|famoso||place person film|ser
    kind|gentil gentille|amable amable||person|ser
    intelligent|intelligent intelligente|inteligente inteligente||person animal|ser
    hungry|affamé affamée|hambriento||person animal|estar
    tired|fatigué fatiguée|cansado||person animal|estar
    sick|malade malade|enfermo||person animal|estar
    happy|heureux heureuse heureux heureuses|contento||person|estar
    sad|triste triste|triste triste||person animal|estar
    ready|prêt prête|listo||person|estar
    busy|occupé occupée|ocupado||person|estar
    open|ouvert ouverte|abierto||door shops|estar
    closed|fermé fermée|cerrado||door shops|estar
    clean|propre propre|limpio||place thing|estar
    dirty|sale sale|sucio||place thing|estar
    hot|chaud chaude|caliente caliente||food drink|estar
    cold|froid froide|frío||food drink|estar"""

# en, 3rd, past | fr: infinitive + present if irregular : participle : future stem | es: infinitive : present : past : future
_VERBS = """
    eat eats ate|manger,mange manges mange mangeons mangez mangent|comer|food
    drink drinks drank|boire,bois bois boit buvons buvez boivent,bu,boir|beber|drink
    buy buys bought|acheter,achète achètes achète achetons achetez achètent,acheté,achèter|comprar|thing food media ride
    sell sells sold|vendre,vends vends vend vendons vendez vendent,vendu,vendr|vender|thing food
    see sees saw|voir,vois vois voit voyons voyez voient,vu,verr|ver,veo ves ve vemos veis ven,vi viste vio vimos visteis vieron|thing person animal place film door
    read reads read|lire,lis lis lit lisons lisez lisent,lu,lir|leer,,leí leíste leyó leímos leísteis leyeron|media
    write writes wrote|écrire,écris écris écrit écrivons écrivez écrivent,écrit,écrir|escribir|media
    find finds found|trouver|encontrar,encuentro encuentras encuentra encontramos encontráis encuentran|thing media place animal
    choose chooses chose|choisir,choisis choisis choisit choisissons choisissez choisissent,choisi,choisir|elegir,elijo eliges elige elegimos elegís eligen,elegí elegiste eligió elegimos elegisteis eligieron|thing film media
    clean cleans cleaned|nettoyer,nettoie nettoies nettoie nettoyons nettoyez nettoient,nettoyé,nettoier|limpiar|thing door room
    open opens opened|ouvrir,ouvre ouvres ouvre ouvrons ouvrez ouvrent,ouvert,ouvrir|abrir|door shops
    close closes closed|fermer|cerrar,cierro cierras cierra cerramos cerráis cierran|door shops
    send sends sent|envoyer,envoie envoies envoie envoyons envoyez envoient,envoyé,enverr|enviar,envío envías envía enviamos enviáis envían|media film
    receive receives received|recevoir,reçois reçois reçoit recevons recevez reçoivent,reçu,recevr|recibir|media film
    visit visits visited|visiter|visitar|place
    help helps helped|aider|ayudar|person
    call calls called|appeler,appelle appelles appelle appelons appelez appellent,appelé,appeller|llamar|person
    lose loses lost|perdre,perds perds perd perdons perdez perdent,perdu,perdr|perder,pierdo pierdes pierde perdemos perdéis pierden|thing media
    prepare prepares prepared|préparer,prépare prépares prépare préparons préparez préparent,préparé,préparer|preparar|food drink
    use uses used|utiliser|usar|thing
    repair repairs repaired|réparer,répare répares répare réparons réparez réparent,réparé,réparer|reparar|thing door
    take takes took|prendre,prends prends prend prenons prenez prennent,pris,prendr|tomar|ride
    bring brings brought|apporter|traer,traigo traes trae traemos traéis traen,traje trajiste trajo trajimos trajisteis trajeron|thing food drink media
    watch watches watched|regarder|mirar|film animal
    paint paints painted|peindre,peins peins peint peignons peignez peignent,peint,peindr|pintar|door house
    order orders ordered|commander|pedir,pido pides pide pedimos pedís piden,pedí pediste pidió pedimos pedisteis pidieron|food drink
    work works worked|travailler|trabajar|
    sleep sleeps slept|dormir,dors dors dort dormons dormez dorment,dormi,dormir|dormir,duermo duermes duerme dormimos dormís duermen,dormí dormiste durmió dormimos dormisteis durmieron|
    sing sings sang|chanter|cantar|
    dance dances danced|danser|bailar|
    swim swims swam|nager,nage nages nage nageons nagez nagent|nadar|
    wait waits waited|attendre,attends attends attend attendons attendez attendent,attendu,attendr|esperar|
    study studies studied|étudier|estudiar|
    play plays played|jouer|jugar,juego juegas juega jugamos jugáis juegan,jugué jugaste jugó jugamos jugasteis jugaron|
    cook cooks cooked|cuisiner|cocinar|
    run runs ran|courir,cours cours court courons courez courent,couru,courr|correr|
    arrive arrives arrived|arriver|llegar,,llegué llegaste llegó llegamos llegasteis llegaron|!
    leave leaves left|partir,pars pars part partons partez partent,parti,partir|salir,salgo sales sale salimos salís salen,,saldr|!
    return returns returned|rentrer|volver,vuelvo vuelves vuelve volvemos volvéis vuelven|!"""

_FR_FUTURE = ("ai", "as", "a", "ons", "ez", "ont")
_ES_FUTURE = ("é", "ás", "á", "emos", "éis", "án")
_ES_PRESENT = {
    "ar": ("o", "as", "a", "amos", "áis", "an"),
    "er": ("o", "es", "e", "emos", "éis", "en"),
    "ir": ("o", "es", "e", "imos", "ís", "en"),
}
_ES_PAST = {
    "ar": ("é", "aste", "ó", "amos", "asteis", "aron"),
    "er": ("í", "iste", "ió", "imos", "isteis", "ieron"),
    "ir": ("í", "iste", "ió", "imos", "isteis", "ieron"),
}
_EARLY_SHOPS = ("bank", "library", "market", "museum", "office", "pharmacy", "restaurant", "school", "shop", "church")


def _nouns() -> tuple[Noun, ...]:
    found = []
    for kind, table in _NOUNS.items():
        for line in table.strip().splitlines():
            en, fr, es = (part.strip() for part in line.split("|"))
            one, many = en.split()
            found.append(Noun(one, many, *_romance(fr), *_romance(es), kind))
    return tuple(found)


def _romance(text: str) -> tuple[str, str, str]:
    """Read `word gender [plural]`; the word may have spaces."""
    parts = text.split()
    at = max(index for index, part in enumerate(parts) if part in ("m", "f"))
    word, gender, plural = " ".join(parts[:at]), parts[at], " ".join(parts[at + 1 :])
    return word, plural or word + "s", gender


def _adjectives() -> tuple[Adjective, ...]:
    found = []
    for line in _ADJECTIVES.strip().splitlines():
        en, fr, es, early, kinds, be = (part.strip() for part in line.split("|"))
        if fr.startswith("bon marché"):
            french = ["bon marché"] * 4
        else:
            french = fr.split()
            french += [form + "s" for form in french] if len(french) == 2 else []
        spanish = es.split()
        if len(spanish) == 1:
            spanish.append(spanish[0][:-1] + "a")
        spanish += [form + "s" for form in spanish] if len(spanish) == 2 else []
        found.append(Adjective(en, tuple(french), tuple(spanish), early == "early", kinds, be == "estar"))  # type: ignore[arg-type]
    return tuple(found)


def _verbs() -> tuple[Verb, ...]:
    found = []
    for line in _VERBS.strip().splitlines():
        en, fr, es, kinds = (part.strip() for part in line.split("|"))
        base, third, past = en.split()
        kind = kinds.replace("!", "")
        found.append(Verb(base, third, past, *_french(fr), *_spanish(es), kind, etre="!" in kinds))
    return tuple(found)


def _french(text: str) -> tuple[str, tuple[str, ...], str, tuple[str, ...]]:
    infinitive, present, participle, stem = [*text.split(","), "", "", ""][:4]
    root = infinitive[:-2]
    forms = tuple(present.split()) or tuple(root + end for end in ("e", "es", "e", "ons", "ez", "ent"))
    return infinitive, forms, participle or root + "é", tuple((stem or infinitive) + end for end in _FR_FUTURE)


def _spanish(text: str) -> tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    infinitive, present, past, stem = [*text.split(","), "", "", ""][:4]
    root, group = infinitive[:-2], infinitive[-2:]
    now = tuple(present.split()) or tuple(root + end for end in _ES_PRESENT[group])
    then = tuple(past.split()) or tuple(root + end for end in _ES_PAST[group])
    return infinitive, now, then, tuple((stem or infinitive) + end for end in _ES_FUTURE)


NOUNS = _nouns()
ADJECTIVES = _adjectives()
VERBS = _verbs()
BY_ENGLISH = {noun.en: noun for noun in NOUNS}


def of_kinds(kinds: str) -> tuple[Noun, ...]:
    """Nouns of the named kinds; `shops`, `room` and `house` name a few places."""
    wanted = kinds.split()
    return tuple(
        noun
        for noun in NOUNS
        if noun.kind in wanted or noun.en in wanted or ("shops" in wanted and noun.en in _EARLY_SHOPS)
    )
