from django.urls import include, path

urlpatterns = [
    path("", include("bench.urls")),
    path("visits/", include("visits.urls")),
]
