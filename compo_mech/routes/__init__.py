"""The routes by which one token reaches a prediction, and what each of them carries."""

from compo_mech.routes.swaps import RouteStrings, Swap, SwapVariable, make_swaps, route_strings
from compo_mech.routes.paths import Route, routes_of, patch_routes, patch_together
from compo_mech.routes.route_map import route_map, route_shares
from compo_mech.routes.summary import RouteMap, RouteName, Cell, Summary, long_cells, main_route, mean_shares

__all__ = [
    "Swap",
    "SwapVariable",
    "make_swaps",
    "RouteStrings",
    "route_strings",
    "Route",
    "routes_of",
    "patch_routes",
    "patch_together",
    "route_map",
    "route_shares",
    "RouteMap",
    "RouteName",
    "Cell",
    "Summary",
    "long_cells",
    "main_route",
    "mean_shares",
]
