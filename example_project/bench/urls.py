from django.urls import path

from . import views

urlpatterns = [
    path("", views.page, name="bench"),
    path("bench/state/", views.state, name="bench-state"),
    path("bench/do/<slug:name>/", views.act, name="bench-act"),
]
