"""Everyday names of places that rank like their own names. No source has them, or only among hundreds of others."""

EVERYDAY_NAMES = {
    "subdivision-US-DC": ("DC", "D.C."),
    "city-4140963": ("Washington, D.C.", "Washington DC"),
    "city-5128581": ("NYC", "New York, New York"),
    "city-5368361": ("LA", "L.A."),
    "city-5391959": ("SF", "San Fran"),
    "city-5506956": ("Vegas",),
    "city-4560349": ("Philly",),
    "city-4684888": ("DFW", "Dallas-Fort Worth"),
    "city-4335045": ("NOLA",),
    "city-4180439": ("ATL",),
    "city-2643743": ("Greater London",),
    "city-1735161": ("KL",),
    "city-1566083": ("HCMC",),
    "city-3530597": ("CDMX",),
    "city-3435910": ("CABA",),
    "city-3451190": ("Rio",),
    "city-1609350": ("BKK",),
    "subdivision-FR-NOR": ("Normandy",),
    "subdivision-CN-NM": ("Inner Mongolia",),
    "subdivision-SE-M": ("Scania",),
    "subdivision-UA-32": ("Kyiv Oblast", "Kyiv Region"),
    "subdivision-RU-MOS": ("Moscow Oblast", "Moscow Region"),
    "subdivision-RU-CE": ("Chechnya",),
    "subdivision-PK-KP": ("KPK",),
    **{
        f"subdivision-US-{code}": (name,)
        for code, name in (
            *(("AL", "Ala."), ("AZ", "Ariz."), ("AR", "Ark."), ("CO", "Colo."), ("CT", "Conn."), ("DE", "Del.")),
            *(("FL", "Fla."), ("IL", "Ill."), ("IN", "Ind."), ("KS", "Kan."), ("MN", "Minn."), ("MS", "Miss.")),
            *(("MT", "Mont."), ("NE", "Neb."), ("NV", "Nev."), ("OK", "Okla."), ("OR", "Ore."), ("PA", "Penna.")),
            *(("WV", "W.Va."), ("WI", "Wis."), ("WY", "Wyo.")),
        )
    },
}
"""The names by node id."""
